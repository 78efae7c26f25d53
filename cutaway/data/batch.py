"""A batch: what the model reads and what it should say. B rows, T positions."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cutaway.loss.language_modelling import IGNORED


@dataclass(frozen=True)
class Batch:
    """Rows of tokens; several documents may share a row.

    Args:
        ids_BT: token ids.
        targets_BT: the token after each, `IGNORED` where nothing is learned; never across documents.
        positions_BT: each token's place in its document.
        segments_BT: the number of the document within its row, from 1; 0 is padding.
    """

    ids_BT: Tensor
    targets_BT: Tensor
    positions_BT: Tensor
    segments_BT: Tensor

    @property
    def n_targets(self) -> int:
        """Supervised tokens."""
        return int((self.targets_BT != IGNORED).sum())

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(*(getattr(self, item.name).to(device) for item in fields(self)))

    def rows(self, start: int, stop: int) -> "Batch":
        """Some of the rows."""
        return Batch(*(getattr(self, item.name)[start:stop] for item in fields(self)))
