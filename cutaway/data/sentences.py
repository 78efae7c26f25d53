"""Texts as rows that are read and written whole: what an auto-encoder of sentences learns from.

B rows, T positions.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from cutaway.data.batch import PaddedRows
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.rows import RowCorpus, RowStream, padded
from cutaway.data.stream import BatchStream
from cutaway.text.tokenizer import Tokenizer


class SentencesConfig(DataConfig):
    """As for language models, a record a row."""

    seq_len: int = Field(
        64, ge=2, description="tokens of a row, after the first; longer records are cut, see over_long"
    )
    rows: int = Field(32, ge=1, description="rows per micro-batch")
    packing: Literal[False] = Field(False, description="a row is one text")


class SentenceBatch(PaddedRows):
    """Texts with the token that ends them."""


def open_sentences(config: SentencesConfig, tokenizer: Tokenizer, seed: int) -> RowCorpus[int, SentenceBatch]:
    """Read, encode, split (as `open_corpus` does, with its errors) and make streams in which rows of like length meet."""
    corpus = open_corpus(config, tokenizer, seed)
    begun = int(tokenizer.adds_bos)  # the writer has a first token of its own

    def stream(source: BatchStream) -> RowStream[int, SentenceBatch]:
        store = source.store

        def collate(pieces: list[int], drawn: np.random.Generator) -> SentenceBatch:
            return SentenceBatch(*padded([store.piece(piece)[0][begun:].tolist() for piece in pieces], source.pad_id))

        return RowStream(source.pieces.tolist(), collate, config.rows, seed, lambda piece: int(store.lengths[piece]))

    return RowCorpus(stream(corpus.train), stream(corpus.held_out), corpus.skipped)
