"""Pairs of a source and a target: translations, summaries, questions with answers.

They come as two text files with a pair per line (also gzipped), or as records (JSONL, JSON, Parquet) with a field for each side.
B rows, S source positions, T target positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pydantic import Field
from torch import Tensor

from cutaway.core.errors import DataError
from cutaway.data.batch import Rows
from cutaway.data.described import FilesConfig
from cutaway.data.examples import Skipped
from cutaway.data.read import read_lines, read_records
from cutaway.data.rows import RowCorpus, RowStream, padded, sides
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.tokenizer import Tokenizer


class PairsConfig(FilesConfig):
    """Where the pairs are and how they become batches."""

    source: Path = Field(
        description="text with one source per line, or records that hold both sides; or a file and its text "
        "(data.described)"
    )
    target: Path | None = Field(None, description="text with one target per line; null: `source` holds records")
    held_out_source: Path | None = Field(None, description="pairs to evaluate on; null: a share of the others")
    held_out_target: Path | None = None
    held_out_share: float = Field(0.02, gt=0, lt=1)
    source_field: str = "source"
    target_field: str = "target"
    encoding: str = "utf-8"
    seq_len: int = Field(128, ge=2, description="tokens of a side at most; a longer pair is left out and counted")
    rows: int = Field(64, ge=1, description="pairs per micro-batch")


@dataclass(frozen=True)
class Pair:
    """Token ids; each side ends with EOS."""

    source: list[int]
    target: list[int]


@dataclass(frozen=True)
class PairBatch(Rows):
    """Pairs side by side.

    Args:
        source_BS: token ids, padded on the right; or the images or sounds that a model reads, whose positions are S.
        real_BS: where the source is no padding.
        target_BT: what the decoder reads: the start token, then the target without its last token.
        targets_BT: what it should say: the target, `IGNORED` at padding.
    """

    source_BS: Tensor
    real_BS: Tensor
    target_BT: Tensor
    targets_BT: Tensor

    @property
    def length(self) -> int:
        """S + T."""
        return self.real_BS.shape[1] + self.target_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens of both sides, padding left out."""
        return int(self.real_BS.sum() + (self.targets_BT != IGNORED).sum())


def read_pairs(source: Path, target: Path | None, config: PairsConfig) -> list[tuple[str, str]]:
    """The pairs of a file, or of two.

    Raises:
        DataError: a file is missing, empty or of another length than the other; a record lacks a side; which, and where.
    """
    if target is not None:
        lines = zip_longest(read_lines(source, config.encoding), read_lines(target, config.encoding))
        pairs = []
        for number, (a, b) in enumerate(lines, 1):
            if a is None or b is None:
                shorter, longer = (source, target) if a is None else (target, source)
                raise DataError(
                    f"ends before line {number}, and {longer.name} goes on", field="data.target", value=str(shorter)
                )
            pairs.append((a, b))
    else:
        pairs = []
        for record in read_records(source, config.encoding):
            sides = []
            for name in (config.source_field, config.target_field):
                value = record.value.get(name) if isinstance(record.value, dict) else None
                if not isinstance(value, str):
                    raise DataError(
                        "must be text",
                        field=f"{record.where} {name}",
                        value=value,
                        hint="data.source_field and data.target_field name the fields; two text files: data.source, data.target",
                    )
                sides.append(value)
            pairs.append((sides[0], sides[1]))
    if not pairs:
        raise DataError("is empty", field="data.source", value=str(source))
    return pairs


def open_pairs(
    config: PairsConfig, pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, start_id: int, seed: int
) -> RowCorpus[Pair, PairBatch]:
    """Encode, split and make streams.

    Args:
        pairs: those of `config.source`.
        start_id: what the decoder begins a target with.

    Raises:
        DataError: nothing is left to learn from.
        ConfigError: one pair only, and none can be held out.
    """
    skipped = Skipped()
    others = (
        None if config.held_out_source is None else read_pairs(config.held_out_source, config.held_out_target, config)
    )
    found, others_found = list(enumerate(pairs, 1)), None if others is None else list(enumerate(others, 1))
    learned, judged = sides(found, others_found, config.held_out_share, lambda numbered: numbered[1][0])
    train = encode(learned, tokenizer, config.seq_len, skipped)
    held = encode(judged, tokenizer, config.seq_len, Skipped())
    if not train or not held:
        raise DataError("holds no pair that fits", field="data.source", value=str(config.source), hint=str(skipped))

    def stream(rows: list[Pair]) -> RowStream[Pair, PairBatch]:
        pad = tokenizer.pad_id or 0
        return RowStream(
            rows,
            lambda some, drawn: collate_pairs(some, start_id, pad),
            config.rows,
            seed,
            lambda pair: max(len(pair.source), len(pair.target)),
        )

    return RowCorpus(stream(train), stream(held), skipped.report())


def encode(
    pairs: Sequence[tuple[int, tuple[str, str]]], tokenizer: Tokenizer, seq_len: int, skipped: Skipped
) -> list[Pair]:
    """Both sides of numbered pairs as tokens; pairs with an empty or over-long side are left out and counted."""
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    sources, targets = (tokenizer.encode_batch([pair[side] for _, pair in pairs]) for side in (0, 1))
    found = []
    for (number, _), source, target in zip(pairs, sources, targets, strict=True):
        one = Pair([*source, *end], [*target, *end])
        if not source or not target:
            skipped.add("with an empty side", f"pair {number}")
        elif max(len(one.source), len(one.target)) > seq_len:
            skipped.add("over-long", f"pair {number}")
        else:
            found.append(one)
    return found


def collate_pairs(pairs: Sequence[Pair], start_id: int, pad_id: int) -> PairBatch:
    """Pairs as a batch, as wide as the longest of each side."""
    source_BS, real_BS = padded([pair.source for pair in pairs], pad_id)
    return PairBatch(source_BS, real_BS, *collate_targets([pair.target for pair in pairs], [start_id], pad_id))


def collate_targets(targets: Sequence[list[int]], prompt: Sequence[int], pad_id: int) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it should say; of the prompt, that the decoder begins with, nothing is learned."""
    target_BT, _ = padded([[*prompt, *target[:-1]] for target in targets], pad_id)
    unlearned = [IGNORED] * (len(prompt) - 1)
    targets_BT, _ = padded([[*unlearned, *target] for target in targets], IGNORED)
    return target_BT, targets_BT
