"""Images or sounds with labels, for a model that tells classes apart. B rows, T positions of a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.batch import Rows
from cutaway.data.described import Described, Media
from cutaway.data.examples import Skipped
from cutaway.data.labelled import LabelledConfig, number_of
from cutaway.data.rows import RowCorpus, RowStream, sides


@dataclass(frozen=True)
class LabelledFiles(Rows):
    """Pixels or spectrograms and the numbers of their labels, B × 1; `real_BT` says how many positions a model makes of them."""

    media: Tensor
    real_BT: Tensor
    labels: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.real_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """B × T."""
        return self.real_BT.numel()


def open_labelled_files(
    config: LabelledConfig,
    rows: Sequence[Described],
    held: Sequence[Described] | None,
    labels: Sequence[str],
    media: Media,
    positions: Callable[[Tensor], int],
    seed: int,
) -> RowCorpus[Described, LabelledFiles]:
    """Check the files, split and make streams.

    Args:
        rows, held: to learn from, and to evaluate on; None: a share of the others.
        labels: by number.
        media: decodes files.
        positions: T of a batch of files.

    Raises:
        DataError: a file cannot be used, and `bad` is error; a held-out file has a label that does not occur in training.
        ConfigError: one row only, and none can be held out.
    """
    skipped, numbers = Skipped(), {name: number for number, name in enumerate(labels)}

    def collate(some: list[Described], drawn: object) -> LabelledFiles:
        files, own_B1 = media.batch(some), torch.tensor([[numbers[row.said]] for row in some])
        return LabelledFiles(files, torch.ones(len(some), positions(files), dtype=torch.bool), own_B1)

    def stream(some: list[Described]) -> RowStream[Described, LabelledFiles]:
        for row in some:
            number_of(row.said, numbers, row.where)
        return RowStream(some, collate, config.rows, seed)

    others = None if held is None else media.usable(held, skipped)
    train, held_out = sides(media.usable(rows, skipped), others, config.held_out_share, lambda row: row.key)
    return RowCorpus(stream(train), stream(held_out), skipped.report())
