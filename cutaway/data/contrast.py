"""Texts that belong together, for embeddings: an anchor, its positive, and maybe a hard negative.

{"anchor": "…", "positive": "…"}        {"anchor": "…", "positive": "…", "negative": "…"}

B rows, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import DataError
from cutaway.data.batch import Rows
from cutaway.data.described import FilesConfig
from cutaway.data.read import read_records
from cutaway.data.rows import RecordsConfig, RowCorpus, RowStream, padded, sides
from cutaway.text.framing import Framing
from cutaway.text.tokenizer import Tokenizer

COMPARED = 2
"""Rows of a batch at least: one alone has no other to be told apart from, and its loss would be 0."""


class ContrastConfig(RecordsConfig, FilesConfig):
    """Where the texts, or the images with their texts, are and how they become batches."""

    anchor_field: str = "anchor"
    positive_field: str = "positive"
    negative_field: str = Field("negative", description="in all records or in none")
    seq_len: int = Field(128, ge=4, description="tokens of a text at most; longer ones are cut")
    rows: int = Field(64, ge=COMPARED, description="rows per micro-batch; each is compared with all others of it")


@dataclass(frozen=True)
class Triple:
    """Texts as token ids; `negative` is empty where there is none."""

    anchor: list[int]
    positive: list[int]
    negative: list[int]


@dataclass(frozen=True)
class ContrastBatch(Rows):
    """Texts padded on the right, and where they are real; the negatives have width 0 where there are none."""

    anchor_BT: Tensor
    anchor_real_BT: Tensor
    positive_BT: Tensor
    positive_real_BT: Tensor
    negative_BT: Tensor
    negative_real_BT: Tensor

    @property
    def length(self) -> int:
        """Positions of all texts of a row."""
        return self.anchor_BT.shape[1] + self.positive_BT.shape[1] + self.negative_BT.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens to read, padding left out."""
        return int(self.anchor_real_BT.sum() + self.positive_real_BT.sum() + self.negative_real_BT.sum())


def read_triples(path: Path, config: ContrastConfig) -> list[tuple[str, str, str | None]]:
    """Anchor, positive, negative or None.

    Raises:
        DataError: a record lacks a text, or some have a negative and others do not; which, and where.
    """
    triples: list[tuple[str, str, str | None]] = []
    for record in read_records(path, config.encoding):
        value = record.value if isinstance(record.value, dict) else {}
        texts = [value.get(name) for name in (config.anchor_field, config.positive_field, config.negative_field)]
        for name, text in zip((config.anchor_field, config.positive_field), texts, strict=False):
            if not isinstance(text, str) or not text.strip():
                hint = "data.anchor_field and data.positive_field name the fields"
                raise DataError("must be text", field=f"{record.where} {name}", value=text, hint=hint)
        if texts[2] is not None and (not isinstance(texts[2], str) or not texts[2].strip()):
            raise DataError("must be text", field=f"{record.where} {config.negative_field}", value=texts[2])
        if triples and (triples[0][2] is None) != (texts[2] is None):
            raise DataError("is in some records only", field=f"{record.where} {config.negative_field}")
        triples.append((texts[0], texts[1], texts[2]))  # type: ignore[arg-type]
    return triples


def open_contrast(
    config: ContrastConfig, triples: Sequence[tuple[str, str, str | None]], tokenizer: Tokenizer, seed: int
) -> RowCorpus[Triple, ContrastBatch]:
    """Encode, split and make streams of what `config.path` holds."""
    framing = Framing(tokenizer)
    others = None if config.held_out is None else read_triples(config.held_out, config)
    train, held = sides(triples, others, config.held_out_share, lambda triple: triple[1], COMPARED)

    def encode(triple: tuple[str, str, str | None]) -> Triple:
        ids = [framing.frame(tokenizer.encode(text), None, config.seq_len)[0] if text else [] for text in triple]
        return Triple(*ids)

    def stream(some: Sequence[tuple[str, str, str | None]]) -> RowStream[Triple, ContrastBatch]:
        pad = tokenizer.pad_id or 0
        rows = list(map(encode, some))
        return RowStream(rows, lambda rows, drawn: collate_triples(rows, pad), config.rows, seed, least=COMPARED)

    return RowCorpus(stream(train), stream(held))


def collate_triples(rows: Sequence[Triple], pad_id: int) -> ContrastBatch:
    """Rows as a batch, each kind of text as wide as its longest."""
    texts: list[Tensor] = []
    for name in ("anchor", "positive", "negative"):
        kind = [getattr(row, name) for row in rows]
        texts += padded(kind, pad_id) if any(kind) else (torch.zeros(len(rows), 0, dtype=torch.int64),) * 2
    return ContrastBatch(*texts)
