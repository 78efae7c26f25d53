"""Counting the n-grams of documents as Kneser-Ney smoothing wants them, by sorting and without a loop over tokens.

What a key is, and what the start symbols are for, says `ngram`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cutaway.core.errors import DataError


def count_ngrams(
    documents: Iterable[Sequence[int] | np.ndarray], vocab_size: int, order: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys and counts of every order, from 1 on.

    Counts are occurrences at the highest order and, below it, how many different tokens were seen before the n-gram. One that
    ends in a start symbol is there as a context only, with a count of 0.

    Raises:
        DataError: there is no token.
    """
    tokens, depth = _join(documents, vocab_size, order)
    base = vocab_size + 1
    rows = np.zeros(len(tokens), np.int64)  # of the n-gram one order below that ends at each place
    below = None
    for n in range(1, order + 1):
        whole = np.flatnonzero(depth >= n)
        ending = np.concatenate([[0], rows[:-1]])[whole] * base + tokens[whole]
        keys, first, row, counts = np.unique(ending, return_index=True, return_inverse=True, return_counts=True)
        predicted = keys % base != vocab_size
        if below is not None:  # each n-gram stands for one token before its last n − 1
            yield below, np.bincount(rows[whole[first[predicted]]], minlength=len(below))
        below = keys
        rows[whole] = row
    assert below is not None
    yield below, counts * predicted


def _join(
    documents: Iterable[Sequence[int] | np.ndarray], vocab_size: int, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """All documents in a row, each after its start symbols, and for every token how many it is from its document's start."""
    start = np.full(order - 1, vocab_size, np.int64)
    parts = [np.concatenate([start, np.asarray(ids, np.int64)]) for ids in documents if len(ids)]
    if not parts:
        raise DataError("holds no token to count", field="data")
    tokens = np.concatenate(parts)
    assert ((tokens >= 0) & (tokens <= vocab_size)).all(), "ids are below vocab_size"
    return tokens, np.concatenate([np.arange(1, len(part) + 1) for part in parts])
