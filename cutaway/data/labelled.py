"""Texts, pairs of texts, or words, with labels: records (JSONL, JSON, Parquet) with a field for each.

{"text": "…", "label": "spam"}
{"text": "…", "text_pair": "…", "label": 1}
{"text": ["A", "word", …], "label": ["X", "O", …]}

B rows, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import DataError, near_matches
from cutaway.data.batch import Rows
from cutaway.data.read import read_records
from cutaway.data.rows import RowStream, padded, split
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.framing import Framing
from cutaway.text.tokenizer import Tokenizer


class LabelledConfig(Config):
    """Where the labelled texts are and how they become batches."""

    path: Path = Field(description="file, folder or pattern; JSONL, JSON or Parquet")
    held_out: Path | None = Field(None, description="records to evaluate on; null: a share of the others")
    held_out_share: float = Field(0.1, gt=0, lt=1)
    text_field: str = "text"
    pair_field: str = "text_pair"
    label_field: str = "label"
    encoding: str = "utf-8"
    seq_len: int = Field(128, ge=4, description="tokens of a row at most; longer texts are cut and counted")
    rows: int = Field(32, ge=1, description="rows per micro-batch")


@dataclass(frozen=True)
class Labelled:
    """A record: a text, maybe with another, and its label; or words with a label each."""

    text: str | tuple[str, ...]
    pair: str | None
    label: str | tuple[str, ...]
    where: str


@dataclass(frozen=True)
class LabelRow:
    """Token ids, which text each belongs to, and the labels' numbers: one, or one per token (`IGNORED` inside a word)."""

    ids: list[int]
    types: list[int]
    labels: list[int]


@dataclass(frozen=True)
class LabelBatch(Rows):
    """Rows padded on the right.

    Args:
        ids_BT, types_BT: token ids, and 1 where they belong to the second text.
        real_BT: where there is no padding.
        labels: numbers of labels, B × 1 of a text or B × T of tokens; `IGNORED` where there is none.
    """

    ids_BT: Tensor
    types_BT: Tensor
    real_BT: Tensor
    labels: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.ids_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens to read, padding left out."""
        return int(self.real_BT.sum())


@dataclass(frozen=True)
class LabelCorpus:
    """Training batches, batches to evaluate on, how many texts were cut, and how often each label occurs."""

    train: RowStream[LabelRow, LabelBatch]
    held_out: RowStream[LabelRow, LabelBatch]
    truncated: int
    counts: dict[str, int]


def read_labelled(path: Path, config: LabelledConfig) -> list[Labelled]:
    """The records of files.

    Raises:
        DataError: a record without text or label, words and labels of different number; which, and where.
    """
    return [_labelled(record.value, record.where, config) for record in read_records(path, config.encoding)]


def _labelled(value: Any, where: str, config: LabelledConfig) -> Labelled:
    if not isinstance(value, dict):
        raise DataError("must be an object", field=where, value=value)
    for name in (config.text_field, config.label_field):
        if value.get(name) is None:
            hint = near_matches(name, list(map(str, value)))
            raise DataError("is missing", field=f"{where} {name}", hint=f"{hint}; data.text_field and data.label_field")
    text, label, pair = value[config.text_field], value[config.label_field], value.get(config.pair_field)
    if isinstance(text, list):
        if not isinstance(label, list) or len(text) != len(label) or not text:
            raise DataError("must have one label per word", field=f"{where} {config.label_field}")
        return Labelled(tuple(map(str, text)), None, tuple(map(str, label)), where)
    for name, one in ((config.text_field, text), (config.pair_field, pair)):
        if one is not None and not isinstance(one, str):
            raise DataError("must be text", field=f"{where} {name}", value=one)
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise DataError("must be a word or a whole number", field=f"{where} {config.label_field}", value=label)
    return Labelled(text, pair, str(label), where)


def label_names(records: Sequence[Labelled]) -> tuple[str, ...]:
    """The labels that occur, sorted; numbers by their size.

    Raises:
        DataError: fewer than two, or some records label words and others texts.
    """
    of_words = {isinstance(record.label, tuple) for record in records}
    if len(of_words) > 1:
        raise DataError("labels words in some records and texts in others", field="data.path")
    names = {
        name for record in records for name in (record.label if isinstance(record.label, tuple) else [record.label])
    }
    if len(names) < 2:
        raise DataError(f"holds one label only: {', '.join(names)}", field="data.path")
    whole = all(name.lstrip("-").isdigit() for name in names)
    return tuple(sorted(names, key=int if whole else str))


def open_labelled(
    config: LabelledConfig, records: Sequence[Labelled], labels: Sequence[str], tokenizer: Tokenizer, seed: int
) -> LabelCorpus:
    """Encode, split and make streams.

    Args:
        records: those of `config.path`.
        labels: by number.

    Raises:
        DataError: a held-out record has a label that does not occur in training.
    """
    if config.held_out is not None:
        train, held = list(records), read_labelled(config.held_out, config)
    else:
        train, held = split(records, config.held_out_share, lambda record: repr(record.text))
    framing, numbers = Framing(tokenizer), {name: number for number, name in enumerate(labels)}
    truncated = 0

    def encode(record: Labelled) -> LabelRow:
        nonlocal truncated
        try:
            row, cut = _encode(record, framing, tokenizer, numbers, config.seq_len)
        except KeyError as err:
            raise DataError("does not occur in training", field=f"{record.where} label", value=err.args[0]) from None
        truncated += cut
        return row

    def stream(rows: list[LabelRow]) -> RowStream[LabelRow, LabelBatch]:
        pad = tokenizer.pad_id or 0
        return RowStream(
            rows, lambda some, drawn: collate_labelled(some, pad), config.rows, seed, lambda row: len(row.ids)
        )

    counts = dict.fromkeys(labels, 0)
    for record in records:
        for name in record.label if isinstance(record.label, tuple) else [record.label]:
            counts[name] += 1
    return LabelCorpus(stream(list(map(encode, train))), stream(list(map(encode, held))), truncated, counts)


def _encode(
    record: Labelled, framing: Framing, tokenizer: Tokenizer, numbers: dict[str, int], limit: int
) -> tuple[LabelRow, bool]:
    if isinstance(record.text, tuple):
        pieces = tokenizer.encode_batch([f" {word}" if i else word for i, word in enumerate(record.text)])
        ids = [id for piece in pieces for id in piece]
        labels = [
            numbers[label] if first else IGNORED
            for piece, label in zip(pieces, record.label, strict=True)
            for first in [True, *[False] * (len(piece) - 1)][: len(piece)]
        ]
        framed, types = framing.frame(ids, None, limit)
        return LabelRow(framed, types, [IGNORED, *labels[: len(framed) - 2], IGNORED]), len(ids) > limit - 2
    a = tokenizer.encode(record.text)
    b = tokenizer.encode(record.pair) if record.pair is not None else None
    framed, types = framing.frame(a, b, limit)
    whole = len(a) + 2 + (len(b) + len(framing.between) if b is not None else 0)
    assert isinstance(record.label, str)
    return LabelRow(framed, types, [numbers[record.label]]), whole > limit


def collate_labelled(rows: Sequence[LabelRow], pad_id: int) -> LabelBatch:
    """Rows as a batch, as wide as the longest."""
    ids_BT, real_BT = padded([row.ids for row in rows], pad_id)
    types_BT, _ = padded([row.types for row in rows], 0)
    if all(len(row.labels) == 1 for row in rows):
        labels = torch.from_numpy(np.array([row.labels for row in rows], np.int64))
    else:
        labels, _ = padded([row.labels for row in rows], IGNORED)
    return LabelBatch(ids_BT, types_BT, real_BT, labels)
