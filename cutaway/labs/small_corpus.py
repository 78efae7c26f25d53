"""The small language as a model meets it: a tokeniser that gives every word one token, batches to train on, and scores.

N words.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cutaway.data.examples import Example, Skipped, tokenize
from cutaway.data.masking import MASK_TOKENS
from cutaway.data.pack import collate
from cutaway.data.read import Record
from cutaway.data.store import Store
from cutaway.data.stream import BatchStream
from cutaway.evaluate.perplexity import token_losses
from cutaway.labs.small_language import sentences
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

SEQ_LEN = 64  # positions per row

DECODER = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": SEQ_LEN,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
"""A decoder that learns the language in a few hundred steps; it lacks its `vocab_size`."""


class InMemory(Store):
    """A store of a few examples, without files."""

    def __init__(self, found: Sequence[Example]):
        self.ids = np.concatenate([example.ids for example in found])
        self.learned = np.concatenate([example.learned for example in found])
        self.starts = np.cumsum([0, *(len(example.ids) for example in found)])
        self.skipped = {}


def word_tokenizer() -> Tokenizer:
    """Byte-level BPE trained until every word of the language is one token; with BOS, EOS and a mask token."""
    config = TrainTokenizerConfig(vocab_size=1024, extra=MASK_TOKENS[:1], adds_bos=True)
    return train_tokenizer([one.text for one in sentences(2_000, seed=0)], config)


def examples(texts: Iterable[str], tokenizer: Tokenizer) -> list[Example]:
    """Every text as a document of its own, between BOS and EOS."""
    records = (Record(text, f"text {number}") for number, text in enumerate(texts))
    return list(tokenize(records, tokenizer, Skipped()))


def batches(texts: Iterable[str], tokenizer: Tokenizer, seed: int, rows: int = 16) -> BatchStream:
    """An endless stream over texts, several to a row."""
    store = InMemory(examples(texts, tokenizer))
    pieces = np.arange(len(store))
    return BatchStream(store, pieces, rows, SEQ_LEN, packing=True, seed=seed, pad_id=tokenizer.pad_id or 0)


def word_nats(model: Any, some: Sequence[Example]) -> list[np.ndarray]:
    """Minus the log-probability of every word of each example, without BOS and EOS, under a decoder."""
    lengths = [len(one.ids) - 1 for one in some]
    nats_N = token_losses(model, collate([[(one.ids, one.learned)] for one in some], max(lengths), pad_id=0)).numpy()
    return [nats[:-1] for nats in np.split(nats_N, np.cumsum(lengths)[:-1])]
