"""Word vectors without a network: what a word's neighbours tell of it, counted. N words."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_counts(texts: Sequence[str], path: Path) -> None:
    """A .vec file: for every word, the positive pointwise mutual information with each word before it and each behind it.

    Its width is twice the number of words.
    """
    lines = [text.split() for text in texts]
    id_of = {word: id for id, word in enumerate(sorted({word for words in lines for word in words}))}
    together_NN = np.zeros((len(id_of), len(id_of)))
    for left, right in (pair for words in lines for pair in itertools.pairwise(words)):
        together_NN[id_of[left], id_of[right]] += 1
    expected_NN = together_NN.sum(1, keepdims=True) * together_NN.sum(0) / together_NN.sum()
    information_NN = np.log(np.maximum(together_NN, 1e-12) / np.maximum(expected_NN, 1e-12)).clip(min=0)
    rows = np.concatenate([information_NN, information_NN.T], 1)
    body = [f"{word} {' '.join(f'{value:.5f}' for value in rows[id])}" for word, id in id_of.items()]
    path.write_text("\n".join([f"{len(rows)} {rows.shape[1]}", *body]) + "\n")
