"""Beam search over a table of probabilities: against exhaustive search, and the stopping rules."""

import itertools

import pytest
import torch

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError
from cutaway.decode.beam import Beam, beam_search

V, END = 4, 3


class Markov:
    """log p(next | last); a step callable that needs no cache."""

    def __init__(self, seed: int):
        self.table_VV = torch.randn(V, V, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)

    def __call__(self, tokens, rows):
        return self.table_VV[tokens]

    def score(self, ids: tuple[int, ...]) -> float:
        return float(sum(self.table_VV[a, b] for a, b in itertools.pairwise((0, *ids))))


def exhaustive(model: Markov, length: int) -> list[tuple[int, ...]]:
    """Every sequence that ends with END, or is `length` long, best first."""
    found = []
    for n in range(1, length + 1):
        for ids in itertools.product(range(V), repeat=n):
            if END not in ids[:-1] and (ids[-1] == END or n == length):
                found.append(ids)
    return sorted(found, key=lambda ids: -model.score(ids))


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_that_holds_everything_is_exhaustive(seed):
    model = Markov(seed)
    beam = Beam(width=V**3, n_best=5, length_penalty=0.0, early_stopping="never")
    found = beam_search(model.table_VV[:1], model, beam, {END}, 4)[0]
    assert [tuple(one.ids) for one in found] == exhaustive(model, 4)[:5]
    for one in found:
        assert one.score == pytest.approx(model.score(tuple(one.ids)), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_width_one_is_greedy(seed):
    model = Markov(seed)
    ids = [0]
    while len(ids) < 7 and ids[-1] != END:
        ids.append(int(model.table_VV[ids[-1]].argmax()))
    found = beam_search(model.table_VV[:1], model, Beam(width=1, early_stopping=True), {END}, 6)[0][0]
    assert found.ids == ids[1:]


def test_prompts_of_a_batch_do_not_touch_each_other():
    model = Markov(1)
    beam = Beam(width=3, n_best=3)
    both = beam_search(model.table_VV[:2], model, beam, {END}, 5)
    alone = [beam_search(model.table_VV[i : i + 1], model, beam, {END}, 5)[0] for i in range(2)]
    assert both == alone


def test_the_penalty_changes_which_length_wins():
    model = Markov(0)
    lengths = [
        len(beam_search(model.table_VV[:1], model, Beam(width=8, length_penalty=p), {END}, 8)[0][0].ids)
        for p in (-2.0, 4.0)
    ]
    assert lengths[0] < lengths[1]


def test_more_results_than_beams_are_refused():
    with pytest.raises(ConfigError, match="n_best"):
        load_config(Beam, None, ["width=2", "n_best=3"])
