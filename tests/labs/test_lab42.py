"""Lab 42: its texts and measures where the answer is known."""

import numpy as np
import pytest

from cutaway.labs import lab42_adaptive_softmax as lab
from cutaway.labs import word_frequencies as frequencies


def test_the_reference_is_numbered_by_frequency():
    text = frequencies.reference_text()
    whole = np.bincount(text.ids)
    assert len(whole) == text.vocabulary
    assert (np.diff(whole) <= 0).all()
    assert len(text.training) > 8 * len(text.held_out) > 0


@pytest.mark.parametrize("exponent", [0.9, 1.2])
def test_the_fit_finds_the_exponent(exponent):
    counts = (1e5 * np.arange(1, 301) ** -exponent).astype(int)
    words = np.random.default_rng(0).permutation(np.repeat(np.arange(300), counts))
    found, r2, ranks, shares = frequencies.zipf_fit(frequencies.Text(words, 300))
    assert found == pytest.approx(exponent, abs=0.05)
    assert r2 > 0.99
    assert len(ranks) == len(shares)


def test_half_of_the_generated_words_are_named_by_the_one_before():
    text = frequencies.zipf_text(vocabulary=5000, exponent=1.1, seed=0)
    rows = text.ids.reshape(1000, -1)
    assert rows.max() < 5000
    after_7 = rows[:, 1:][rows[:, :-1] == 7]
    assert np.bincount(after_7).max() / len(after_7) == pytest.approx(frequencies.NAMED, abs=0.15)


def test_coverage():
    text = frequencies.Text(np.array([0] * 60 + [1] * 20 + [2] * 10 + [3] * 10 + [0] * 11), 4)
    assert frequencies.coverage(text, 0.25) == pytest.approx(0.6)
    assert frequencies.coverage(text, 0.5) == pytest.approx(0.8)


def test_windows_are_pieces_of_the_text():
    batch = next(lab.windows(np.arange(1000), seed=3))
    assert (batch.targets_BT == batch.ids_BT + 1).all()
    assert (batch.ids_BT[:, 1:] == batch.targets_BT[:, :-1]).all()
