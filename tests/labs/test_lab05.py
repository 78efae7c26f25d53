"""Lab 5: its measures."""

import pytest

from cutaway.labs.contract import verdict
from cutaway.labs.lab05_beam_search import LAB, exhaustive_equal, repetition
from cutaway.labs.runner import conclusion


@pytest.mark.slow
def test_it_repeats_itself(smollm2, quick):
    assert "repeats itself" in conclusion(LAB, verdict(LAB.checks, quick(5))[1]).en


def test_repetition():
    assert repetition([[1, 2, 3, 4, 5]]) == 0
    assert repetition([[1, 1, 1, 1, 1]]) == pytest.approx(2 / 3)


def test_a_beam_that_holds_everything_finds_the_best():
    assert exhaustive_equal(seed=0, vocabulary=4, length=3) == 1
