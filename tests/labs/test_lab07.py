from functools import partial

import pytest
import torch

from cutaway.data.batch import Batch
from cutaway.labs.contract import verdict
from cutaway.labs.lab07_masked_language_modelling import LAB, SHAPE, one_sided, states
from cutaway.models.families import make_model
from cutaway.train.objectives import masked_lm


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(7)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_model({**SHAPE, "vocab_size": 20}).eval()


def batch(ids) -> Batch:
    """Two documents in one row."""
    targets = torch.tensor([[-100, 5, -100, -100, 7, -100]])
    return Batch(torch.tensor([ids]), targets, torch.tensor([[0, 1, 2, 0, 1, 2]]), torch.tensor([[1, 1, 1, 2, 2, 2]]))


def test_both_sides_are_the_objective_of_pretraining(model):
    some = batch([1, 2, 3, 4, 5, 6])
    ours, theirs = one_sided(model, some, "both"), masked_lm(model, some)
    assert ours[0].item() == theirs[0].item()
    assert ours[1] == theirs[1] == 2


@pytest.mark.parametrize(("side", "seen"), [("both", {0, 1, 2}), ("left", {0, 1}), ("right", {1, 2})])
@torch.inference_mode()
def test_a_side_is_all_that_a_place_sees(model, side, seen):
    of = partial(states, model, side=side)
    before = of(batch([1, 2, 3, 4, 5, 6]))[0, 1]
    found = set()
    for place in range(6):
        ids = [1, 2, 3, 4, 5, 6]
        ids[place] = 9
        if not torch.equal(of(batch(ids))[0, 1], before):
            found.add(place)
    assert found == seen


def test_a_side_that_does_as_well_alone_would_refute(numbers):
    both = numbers["token_recovered"][0]
    assert verdict(LAB.checks, {**numbers, "token_recovered": [both, both, 0.1]})[0] == "refuted"
