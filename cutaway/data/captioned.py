"""Images with texts that belong to them, for a model with a tower for each. B rows, C × H × W pixels, S and T positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.errors import DataError, TokenizerError
from cutaway.data.batch import Rows
from cutaway.data.contrast import COMPARED, ContrastConfig
from cutaway.data.described import Described, Media
from cutaway.data.examples import Skipped
from cutaway.data.rows import RowCorpus, RowStream, padded, sides
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Captioned:
    """An image, and its text as token ids."""

    image: Described
    text: list[int]


@dataclass(frozen=True)
class CaptionedBatch(Rows):
    """Images and their texts.

    Args:
        pixels_BCHW: the images; `seen_BS` says how many positions a model makes of them.
        ids_BT: token ids, padded on the right; `real_BT` is true where there is no padding.
    """

    pixels_BCHW: Tensor
    seen_BS: Tensor
    ids_BT: Tensor
    real_BT: Tensor

    @property
    def length(self) -> int:
        """S + T."""
        return self.seen_BS.shape[1] + self.ids_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Positions of images and tokens of texts, padding left out."""
        return int(self.seen_BS.sum() + self.real_BT.sum())


def open_captioned(
    config: ContrastConfig,
    rows: Sequence[Described],
    held: Sequence[Described] | None,
    media: Media,
    positions: int,
    tokenizer: Tokenizer,
    seed: int,
) -> RowCorpus[Captioned, CaptionedBatch]:
    """Check the files, encode the texts, split and make streams.

    Args:
        rows, held: to learn from, and to evaluate on; None: a share of the others.
        positions: S.

    Raises:
        DataError: a text is empty; a file cannot be used, and `bad` is error.
        ConfigError: too few rows to compare, on a side.
        TokenizerError: it has no token that ends a text.
    """
    skipped, end = Skipped(), tokenizer.eos_id
    if end is None:
        raise TokenizerError("has no token that ends a text, at which CLIP reads it", field="tokenizer")
    start = [] if tokenizer.bos_id in (None, end) else [tokenizer.bos_id]

    def encode(row: Described) -> Captioned:
        ids = tokenizer.encode(row.said)
        if not ids:
            raise DataError("must be text", field=f"{row.where} text", value=row.said)
        return Captioned(row, [*start, *ids[: config.seq_len - len(start) - 1], end])

    def collate(some: list[Captioned], drawn: object) -> CaptionedBatch:
        seen_BS = torch.ones(len(some), positions, dtype=torch.bool)
        texts = padded([one.text for one in some], tokenizer.pad_id or 0)
        return CaptionedBatch(media.batch([one.image for one in some]), seen_BS, *texts)

    def stream(some: Sequence[Described]) -> RowStream[Captioned, CaptionedBatch]:
        return RowStream(list(map(encode, some)), collate, config.rows, seed, least=COMPARED)

    others = None if held is None else media.usable(held, skipped)
    usable = media.usable(rows, skipped)
    train, held_out = sides(usable, others, config.held_out_share, lambda row: row.key, COMPARED)
    return RowCorpus(stream(train), stream(held_out), skipped.report())
