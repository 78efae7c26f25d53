"""Images with labels, for a model that tells classes apart. B rows, C × H × W pixels, T positions of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.batch import Rows
from cutaway.data.described import Described, Media
from cutaway.data.examples import Skipped
from cutaway.data.labelled import LabelledConfig, number_of
from cutaway.data.rows import RowCorpus, RowStream, sides


@dataclass(frozen=True)
class LabelledImages(Rows):
    """Images and the numbers of their labels, B × 1; `real_BT` says how many positions a model makes of them."""

    pixels_BCHW: Tensor
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


def open_labelled_images(
    config: LabelledConfig,
    rows: Sequence[Described],
    held: Sequence[Described] | None,
    labels: Sequence[str],
    media: Media,
    positions: int,
    seed: int,
) -> RowCorpus[Described, LabelledImages]:
    """Check the files, split and make streams.

    Args:
        rows, held: to learn from, and to evaluate on; None: a share of the others.
        labels: by number.
        positions: T.

    Raises:
        DataError: a file cannot be used, and `bad` is error; a held-out image has a label that does not occur in training.
        ConfigError: one row only, and none can be held out.
    """
    skipped, numbers = Skipped(), {name: number for number, name in enumerate(labels)}

    def collate(some: list[Described], drawn: object) -> LabelledImages:
        own_B1 = torch.tensor([[numbers[row.said]] for row in some])
        return LabelledImages(media.batch(some), torch.ones(len(some), positions, dtype=torch.bool), own_B1)

    def stream(some: list[Described]) -> RowStream[Described, LabelledImages]:
        for row in some:
            number_of(row.said, numbers, row.where)
        return RowStream(some, collate, config.rows, seed)

    others = None if held is None else media.usable(held, skipped)
    train, held_out = sides(media.usable(rows, skipped), others, config.held_out_share, lambda row: row.key)
    return RowCorpus(stream(train), stream(held_out), skipped.report())
