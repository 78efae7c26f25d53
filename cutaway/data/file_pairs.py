"""Pairs whose source is a file: an image and its caption, a sound and its transcript. B rows, S positions of a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.errors import DataError
from cutaway.data.described import Described, Media
from cutaway.data.examples import Skipped
from cutaway.data.pairs import PairBatch, PairsConfig, collate_targets
from cutaway.data.rows import RowCorpus, RowStream, sides
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class FilePair:
    """A file, and token ids that end with EOS."""

    source: Described
    target: list[int]


def open_file_pairs(
    config: PairsConfig,
    rows: Sequence[Described],
    held: Sequence[Described] | None,
    media: Media,
    positions: Callable[[Tensor], int],
    prompt: Sequence[int],
    tokenizer: Tokenizer,
    seed: int,
) -> RowCorpus[FilePair, PairBatch]:
    """Check the files, encode the texts, split and make streams.

    Args:
        rows, held: to learn from, and to evaluate on; None: a share of the others.
        media: decodes files.
        positions: S of a batch of files.
        prompt: what the decoder begins a target with.

    Raises:
        DataError: a file cannot be used, and `bad` is error; or nothing is left to learn from.
        ConfigError: one row only, and none can be held out.
    """
    skipped = Skipped()
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    pad = tokenizer.pad_id or 0

    def encode(some: Sequence[Described]) -> list[FilePair]:
        found, usable = [], media.usable(some, skipped)
        for row, ids in zip(usable, tokenizer.encode_batch([row.said for row in usable]), strict=True):
            target = [*ids, *end]
            if not ids:
                skipped.add("with an empty side", row.where)
            elif len(prompt) - 1 + len(target) > config.seq_len:
                skipped.add("over-long", row.where)
            else:
                found.append(FilePair(row, target))
        if not found:
            raise DataError("holds no pair that fits", field="data.source", value=str(config.source), hint=str(skipped))
        return found

    def collate(some: list[FilePair], drawn: object) -> PairBatch:
        source = media.batch([pair.source for pair in some])
        real_BS = torch.ones(len(some), positions(source), dtype=torch.bool)
        return PairBatch(source, real_BS, *collate_targets([pair.target for pair in some], prompt, pad))

    def stream(some: list[FilePair]) -> RowStream[FilePair, PairBatch]:
        return RowStream(some, collate, config.rows, seed, lambda pair: len(pair.target))

    found = encode(rows)
    others = None if held is None else encode(held)
    train, held_out = sides(found, others, config.held_out_share, lambda pair: pair.source.key)
    return RowCorpus(stream(train), stream(held_out), skipped.report())
