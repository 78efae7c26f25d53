"""Lab 3: its needles, its counts and its fits where the answer is known."""

import numpy as np
import pytest
import torch

from cutaway.core.errors import ConfigError
from cutaway.labs.contract import verdict
from cutaway.labs.growth import growth
from cutaway.labs.lab03_context_window import (
    FAR,
    LAB,
    SINKS,
    TIMES,
    TRAINED,
    WINDOW,
    attention_ms,
    counted_cost,
    weightless,
)
from cutaway.labs.needles import ASKED, MARK, WORDS, haystacks, needle, share_found
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import family
from cutaway.models.llama_config import LlamaConfig


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(3)


def test_the_fits_know_a_power_from_an_exponential():
    lengths = [1, 2, 3, 5, 8]
    square, doubling = growth(lengths, [7 * n**2 for n in lengths]), growth(lengths, [3 * 2**n for n in lengths])
    assert square.exponent == pytest.approx(2)
    assert square.power_r2 == pytest.approx(1)
    assert doubling.exponential_r2 == pytest.approx(1)
    assert max(square.exponential_r2, doubling.power_r2) < 0.97


def test_costs_that_grew_exponentially_would_be_called_so(numbers):
    grown = [2.0 ** (length / 100) for length in numbers["timed_lengths"]]
    found = growth(numbers["timed_lengths"], grown)
    fits = {"attention_ms_power_r2": found.power_r2, "attention_ms_exponential_r2": found.exponential_r2}
    answers = verdict(LAB.checks, {**numbers, **fits})[1]
    assert answers["exponential cost"]
    assert not verdict(LAB.checks, numbers)[1]["exponential cost"]


def test_a_window_that_forgot_nothing_would_refute_the_claim(numbers):
    found = [[1.0] * len(row) for row in numbers["found_sinks"]]
    answers = verdict(LAB.checks, {**numbers, "found_sinks": found})[1]
    assert not answers["what the window has left is lost"]
    assert not answers["a longer window finds more"]


def test_the_far_depths_lie_behind_the_window_and_not_among_the_sinks():
    for times in TIMES[1:]:
        for depth in FAR:
            ids, _ = needle(1, TRAINED * times, depth, seed=0)
            at = ids[0].tolist().index(MARK)
            assert at >= SINKS
            assert at + 1 < len(ids[0]) - WINDOW


def test_a_row_asks_for_the_word_behind_its_first_mark():
    batch = next(haystacks(50, 24, seed=1))
    for ids, targets in zip(batch.ids_BT.tolist(), batch.targets_BT.tolist(), strict=True):
        places = [place for place, id in enumerate(ids) if id == MARK]
        word = ids[places[0] + 1]
        assert len(places) == 1 + ASKED
        assert word < WORDS
        assert all(ids[place + 1] == word for place in places)
        assert {place for place, target in enumerate(targets) if target != IGNORED} == set(places[1:])
        assert all(targets[place] == word for place in places[1:])


@pytest.mark.parametrize("depth", [0.0, 0.4, 1.0])
def test_a_needle_stands_at_its_depth(depth):
    ids, words = needle(20, 40, depth, seed=2)
    at = round(depth * 36)
    assert (ids[:, -1] == MARK).all()
    assert (ids[:, at] == MARK).all()
    assert ((ids == MARK).sum(1) == 2).all()
    assert torch.equal(ids[:, at + 1], words)


def test_who_reads_the_needle_finds_all_and_who_guesses_one_in_sixteen():
    class Reader:
        def __init__(self, reads):
            self.reads = reads

        def __call__(self, ids):
            first = (ids == MARK).int().argmax(1)
            words = ids.gather(1, first[:, None] + 1) if self.reads else torch.zeros(len(ids), 1, dtype=torch.int64)
            return torch.nn.functional.one_hot(words, WORDS)

        def logits(self, h):
            return h

    assert share_found(Reader(True), 30, 40, 0.5, seed=0) == 1
    assert share_found(Reader(False), 2000, 40, 0.5, seed=0) == pytest.approx(1 / WORDS, abs=0.02)


def test_counts_are_those_of_the_formulas():
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0},
    )
    model, T = weightless((family("llama"), config)), 40
    attention, other, nbytes = counted_cost(model, T)
    assert attention == 3 * 2 * 2 * T * T * 32
    assert other == 3 * 2 * T * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64)
    assert nbytes == 3 * 2 * T * 16 * 4
    assert all(np.array(attention_ms(model, [8, 16])) > 0)


def test_a_model_that_does_not_write_is_refused():
    with pytest.raises(ConfigError, match="no decoder"):
        weightless((family("vit"), family("vit").ViTConfig()))
