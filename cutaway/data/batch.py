"""A batch: what the model reads and what it should say. B rows, T positions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from cutaway.loss.language_modelling import IGNORED


@dataclass(frozen=True)
class Rows(ABC):
    """Base of every batch: tensors whose first axis is the row."""

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""
        return type(self)(*(getattr(self, item.name).to(device) for item in fields(self)))

    def rows(self, start: int, stop: int) -> Self:
        """Some of the rows."""
        return type(self)(*(getattr(self, item.name)[start:stop] for item in fields(self)))

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions per row."""

    @property
    def n_positions(self) -> int:
        """Positions in all, padding included."""
        return len(getattr(self, fields(self)[0].name)) * self.length

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Tokens to read, padding left out."""


@dataclass(frozen=True)
class PaddedRows(Rows):
    """Token ids, padded on the right; `real_BT` is true where there is no padding."""

    ids_BT: Tensor
    real_BT: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.ids_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens to read, padding left out."""
        return int(self.real_BT.sum())


@dataclass(frozen=True)
class Batch(Rows):
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

    @property
    def length(self) -> int:
        """T."""
        return self.ids_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens to read, padding left out."""
        return int((self.segments_BT != 0).sum())
