"""Texts, pairs of texts, or words, with labels: records (JSONL, JSON, Parquet) with a field for each.

{"text": "…", "label": "spam"}
{"text": "…", "text_pair": "…", "label": 1}
{"text": ["A", "word", …], "label": ["X", "O", …]}

B rows, T positions.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import DataError, near_matches
from cutaway.data.batch import PaddedRows
from cutaway.data.described import FilesConfig
from cutaway.data.examples import Skipped
from cutaway.data.read import read_records
from cutaway.data.rows import RecordsConfig, RowCorpus, RowStream, padded, sides
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.framing import Framing
from cutaway.text.tokenizer import Tokenizer


class LabelledConfig(RecordsConfig, FilesConfig):
    """Where the labelled texts or files are and how they become batches."""

    text_field: str = "text"
    pair_field: str = "text_pair"
    label_field: str = "label"
    seq_len: int = Field(128, ge=4, description="tokens of a row at most; longer texts are cut and counted")
    rows: int = Field(32, ge=1, description="rows per micro-batch")


@dataclass(frozen=True)
class Labelled:
    """A record: a text, maybe with another, and its label; or words with a label each."""

    text: str | tuple[str, ...]
    pair: str | None
    label: str | tuple[str, ...]
    where: str

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written in it."""
        text = self.text if isinstance(self.text, str) else " ".join(self.text)
        return (text,) if self.pair is None else (text, self.pair)

    @property
    def labels(self) -> tuple[str, ...]:
        """That of the text, or those of the words."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


@dataclass(frozen=True)
class LabelRow:
    """Token ids, which text each belongs to, and the labels' numbers: one, or one per token (`IGNORED` inside a word)."""

    ids: list[int]
    types: list[int]
    labels: list[int]


@dataclass(frozen=True)
class LabelBatch(PaddedRows):
    """Framed texts and their labels.

    Args:
        types_BT: 1 where a token belongs to the second text.
        labels: numbers of labels, B × 1 of a text or B × T of tokens; `IGNORED` where there is none.
    """

    types_BT: Tensor
    labels: Tensor


def read_labelled(path: Path, config: LabelledConfig) -> list[Labelled]:
    """The records of files.

    Raises:
        DataError: a record without text or label, words and labels of different number; which, and where. Or some records label
            words and others texts.
    """
    records = [_labelled(record.value, record.where, config) for record in read_records(path, config.encoding)]
    if len({isinstance(record.label, tuple) for record in records}) > 1:
        raise DataError("labels words in some records and texts in others", field="data.path")
    return records


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


def count_labels(labels: Iterable[str]) -> dict[str, int]:
    """The labels that occur, sorted (numbers by their size), and how often each does.

    Raises:
        DataError: fewer than two.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(f"holds one label only: {', '.join(counts)}", field="data.path")
    whole = all(re.fullmatch(r"-?\d+", name) for name in counts)
    return dict(sorted(counts.items(), key=lambda item: int(item[0]) if whole else item[0]))


def number_of(label: str, numbers: Mapping[str, int], where: str) -> int:
    """A label's number.

    Raises:
        DataError: it has none.
    """
    if label not in numbers:
        raise DataError("does not occur in training", field=f"{where} label", value=label)
    return numbers[label]


def open_labelled(
    config: LabelledConfig, records: Sequence[Labelled], labels: Sequence[str], tokenizer: Tokenizer, seed: int
) -> RowCorpus[LabelRow, LabelBatch]:
    """Encode, split and make streams.

    Args:
        records: those of `config.path`.
        labels: by number.

    Raises:
        DataError: a held-out record has a label that does not occur in training.
    """
    others = None if config.held_out is None else read_labelled(config.held_out, config)
    train, held = sides(records, others, config.held_out_share, lambda record: repr(record.text))
    framing, numbers = Framing(tokenizer), {name: number for number, name in enumerate(labels)}
    skipped = Skipped()

    def encode(record: Labelled) -> LabelRow:
        row, cut = _encode(record, framing, tokenizer, numbers, config.seq_len)
        if cut:
            skipped.add("truncated", record.where)
        return row

    def stream(rows: list[LabelRow]) -> RowStream[LabelRow, LabelBatch]:
        pad = tokenizer.pad_id or 0
        return RowStream(
            rows, lambda some, drawn: collate_labelled(some, pad), config.rows, seed, lambda row: len(row.ids)
        )

    return RowCorpus(stream(list(map(encode, train))), stream(list(map(encode, held))), skipped.report())


def _encode(
    record: Labelled, framing: Framing, tokenizer: Tokenizer, numbers: dict[str, int], limit: int
) -> tuple[LabelRow, bool]:
    own = [number_of(label, numbers, record.where) for label in record.labels]
    if isinstance(record.text, tuple):
        pieces = tokenizer.encode_batch([f" {word}" if i else word for i, word in enumerate(record.text)])
        ids = [id for piece in pieces for id in piece]
        labels = [
            label if first else IGNORED
            for piece, label in zip(pieces, own, strict=True)
            for first in [True, *[False] * (len(piece) - 1)][: len(piece)]
        ]
        framed, types = framing.frame(ids, None, limit)
        return LabelRow(framed, types, [IGNORED, *labels[: len(framed) - 2], IGNORED]), len(ids) > limit - 2
    a = tokenizer.encode(record.text)
    b = tokenizer.encode(record.pair) if record.pair is not None else None
    framed, types = framing.frame(a, b, limit)
    whole = len(a) + 2 + (len(b) + len(framing.between) if b is not None else 0)
    return LabelRow(framed, types, own), whole > limit


def collate_labelled(rows: Sequence[LabelRow], pad_id: int) -> LabelBatch:
    """Rows as a batch, as wide as the longest."""
    ids_BT, real_BT = padded([row.ids for row in rows], pad_id)
    types_BT, _ = padded([row.types for row in rows], 0)
    if all(len(row.labels) == 1 for row in rows):
        labels = torch.from_numpy(np.array([row.labels for row in rows], np.int64))
    else:
        labels, _ = padded([row.labels for row in rows], IGNORED)
    return LabelBatch(ids_BT, real_BT, types_BT, labels)
