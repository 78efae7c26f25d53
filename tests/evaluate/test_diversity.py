"""Diversity measures on texts where the answer is known."""

import pytest

from cutaway.evaluate.diversity import distinct_n, self_bleu


def test_distinct_n_counts_over_all_sequences():
    assert distinct_n([[1, 2, 3], [1, 2, 4]], 2) == 3 / 4
    assert distinct_n([[1], [2]], 2) == 1.0
    assert distinct_n([], 1) == 1.0


def test_self_bleu_is_100_for_copies_and_low_for_strangers():
    assert self_bleu(["the cat sat on the mat"] * 3) == pytest.approx(100)
    assert self_bleu(["the cat sat on the mat", "an unrelated sentence about steam engines"]) < 10
