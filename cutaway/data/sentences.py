"""Texts as rows that are read and written whole: what an auto-encoder of sentences learns from.

B rows, T positions.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from cutaway.data.batch import Rows
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.rows import RowStream, padded
from cutaway.data.stream import BatchStream
from cutaway.text.tokenizer import Tokenizer


class SentencesConfig(DataConfig):
    """As for language models, a record a row."""

    seq_len: int = Field(
        64, ge=2, description="tokens of a row, after the first; longer records are cut, see over_long"
    )
    rows: int = Field(32, ge=1, description="rows per micro-batch")
    packing: Literal[False] = Field(False, description="a row is one text")


@dataclass(frozen=True)
class SentenceBatch(Rows):
    """Texts with the token that ends them, padded on the right; `real_BT` is true where they are real."""

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
class SentenceCorpus:
    """Training batches, batches to evaluate on, and what was left out."""

    train: RowStream[int, SentenceBatch]
    held_out: RowStream[int, SentenceBatch]
    skipped: dict[str, dict]


def open_sentences(config: SentencesConfig, tokenizer: Tokenizer, seed: int) -> SentenceCorpus:
    """Read, encode, split (as `open_corpus` does, with its errors) and make streams in which rows of like length meet."""
    corpus = open_corpus(config, tokenizer, seed)
    begun = int(tokenizer.adds_bos)  # the writer has a first token of its own

    def stream(source: BatchStream) -> RowStream[int, SentenceBatch]:
        store = source.store

        def collate(pieces: list[int], drawn: np.random.Generator) -> SentenceBatch:
            return SentenceBatch(*padded([store.piece(piece)[0][begun:].tolist() for piece in pieces], source.pad_id))

        return RowStream(source.pieces.tolist(), collate, config.rows, seed, lambda piece: int(store.lengths[piece]))

    return SentenceCorpus(stream(corpus.train), stream(corpus.held_out), corpus.skipped)
