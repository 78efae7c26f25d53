"""Lab 5: its measures, and the expected verdict on the packaged model."""

import pytest

from cutaway.labs.lab05_beam_search import LAB, exhaustive_equal, repetition
from cutaway.labs.runner import run_lab


@pytest.mark.slow
def test_verdict(smollm2, tmp_path):
    record = run_lab(LAB, tmp_path, seeds=(0,), quick=True, model=None)
    assert record["verdict"] == LAB.expected
    assert "repeats itself" in record["conclusion"]["en"]


def test_repetition():
    assert repetition([[1, 2, 3, 4, 5]]) == 0
    assert repetition([[1, 1, 1, 1, 1]]) == pytest.approx(2 / 3)


def test_a_beam_that_holds_everything_finds_the_best():
    assert exhaustive_equal(seed=0, vocabulary=4, length=3) == 1
