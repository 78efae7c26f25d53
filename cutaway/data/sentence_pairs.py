"""Pairs of neighbouring sentences for pretraining encoders: does the second follow the first?

Next-sentence prediction (Devlin et al. 2019): in half of the pairs the second is a sentence from elsewhere. Sentence-order
prediction (Lan et al. 2020): in half of them the two are swapped. Both hide words as well. B rows, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import DataError
from cutaway.data.batch import PaddedRows
from cutaway.data.corpus import DataConfig
from cutaway.data.masking import Masker, MaskingConfig
from cutaway.data.rows import RowCorpus, RowStream, padded, sides
from cutaway.data.shapes import Texts
from cutaway.text.framing import Framing
from cutaway.text.sentences import sentences
from cutaway.text.tokenizer import Tokenizer

FOLLOWS, ELSEWHERE = 0, 1  # as in Hugging Face's checkpoints


class SentencePairsConfig(Config):
    """How pairs are made."""

    negatives: Literal["other", "same"] = Field(
        "other",
        description="nsp: wrong sentences come from another document, which the topic gives away, or from the same",
    )
    weight: float = Field(20.0, gt=0, description="how much a pair counts against one hidden token")


@dataclass(frozen=True)
class Place:
    """A sentence that another follows: its document and its number in it."""

    document: int
    sentence: int


@dataclass(frozen=True)
class SentencePairBatch(PaddedRows):
    """Framed pairs with some of their tokens hidden.

    Args:
        types_BT: 1 where a token belongs to the second sentence.
        targets_BT: the hidden tokens, `IGNORED` elsewhere.
        relation_B: `FOLLOWS` or `ELSEWHERE`.
    """

    types_BT: Tensor
    targets_BT: Tensor
    relation_B: Tensor


SentencePairCorpus = RowCorpus[Place, SentencePairBatch]


def open_sentence_pairs(
    data: DataConfig,
    kind: Literal["nsp", "sop"],
    pairs: SentencePairsConfig,
    masking: MaskingConfig,
    tokenizer: Tokenizer,
    seed: int,
) -> SentencePairCorpus:
    """Read documents, and make streams of pairs. Whole documents are held out.

    Raises:
        DataError: there are not two documents with at least two sentences, or none to evaluate on.
    """
    make = _Maker(kind, pairs, masking, tokenizer, data.seq_len)

    def read(path: object) -> list[list[list[int]]]:
        documents = []
        for text in Texts(path, data.encoding):  # type: ignore[arg-type]
            found = tokenizer.encode_batch([text[a:b] for a, b in sentences(text)])
            documents.append([ids for ids in found if ids])
        return [document for document in documents if len(document) > 1]

    documents = read(data.path)
    if len(documents) < 2:
        raise DataError(
            "holds fewer than two documents with two sentences each",
            field="data.path",
            value=str(data.path),
            hint="one file, or one record, is one document",
        )
    others = None if data.held_out is None else read(data.held_out)
    if others == []:
        raise DataError("holds no document with two sentences", field="data.held_out", value=str(data.held_out))
    train, held = sides(documents, others, data.held_out_share, lambda document: repr(document[0]))

    def stream(some: list[list[list[int]]]) -> RowStream[Place, SentencePairBatch]:
        places = [Place(d, s) for d, document in enumerate(some) for s in range(len(document) - 1)]
        pool = some if len(some) > 1 else documents
        return RowStream(places, lambda rows, drawn: make(some, pool, rows, drawn), data.rows, seed)

    return SentencePairCorpus(stream(train), stream(held))


class _Maker:
    """Turns places into a batch, with everything that is drawn."""

    def __init__(
        self, kind: str, pairs: SentencePairsConfig, masking: MaskingConfig, tokenizer: Tokenizer, seq_len: int
    ):
        self.kind, self.pairs, self.masker, self.seq_len = kind, pairs, Masker(tokenizer, masking), seq_len
        self.framing, self.pad = Framing(tokenizer), tokenizer.pad_id or 0

    def __call__(
        self,
        documents: Sequence[Sequence[list[int]]],
        pool: Sequence[Sequence[list[int]]],
        places: Sequence[Place],
        drawn: np.random.Generator,
    ) -> SentencePairBatch:
        framed, relations = [], []
        for place in places:
            document = documents[place.document]
            first, second = document[place.sentence], document[place.sentence + 1]
            relation = int(drawn.random() < 0.5)
            if relation == ELSEWHERE and self.kind == "sop":
                first, second = second, first
            elif relation == ELSEWHERE:
                second = self._wrong(document, place.sentence, pool, drawn)
            framed.append(self.framing.frame(first, second, self.seq_len))
            relations.append(relation)
        ids_BT, real_BT = padded([ids for ids, _ in framed], self.pad)
        types_BT, _ = padded([types for _, types in framed], 0)
        generator = torch.Generator().manual_seed(int(drawn.integers(2**63)))
        seen_BT, targets_BT = self.masker(ids_BT, real_BT, generator)
        return SentencePairBatch(seen_BT, real_BT, types_BT, targets_BT, torch.tensor(relations))

    def _wrong(
        self,
        document: Sequence[list[int]],
        sentence: int,
        pool: Sequence[Sequence[list[int]]],
        drawn: np.random.Generator,
    ) -> list[int]:
        """A sentence that does not follow; from the same document only where it has a third one."""
        if self.pairs.negatives == "same" and len(document) > 2:
            others = [number for number in range(len(document)) if number not in (sentence, sentence + 1)]
            return document[others[int(drawn.integers(len(others)))]]
        while (other := pool[int(drawn.integers(len(pool)))]) is document:
            pass
        return other[int(drawn.integers(len(other)))]
