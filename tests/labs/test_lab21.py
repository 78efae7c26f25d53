import pytest
import torch

from cutaway.labs.contract import verdict
from cutaway.labs.lab21_positions import CHASED, LAB, SCHEMES, TRAINED, WHO, chases, scored_from
from cutaway.labs.lagged_tokens import LaggedTokens
from cutaway.loss.language_modelling import IGNORED


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(21)


def test_an_encoder_that_saw_order_without_positions_would_refute_the_claim(numbers):
    seen = [
        0.5 if scheme == "none" else value
        for scheme, value in zip(SCHEMES, numbers["mirrored_difference"], strict=True)
    ]
    assert verdict(LAB.checks, {**numbers, "mirrored_difference": seen})[0] == "refuted"
    assert verdict(LAB.checks, {**numbers, "chaser_encoder": 1.0})[0] == "refuted"


def test_a_decoder_that_guessed_would_lift_its_limit(numbers):
    answers = verdict(LAB.checks, {**numbers, "chaser_decoder_2_layers": 0.5})[1]
    assert not answers["a causal decoder needs none"]


def test_chases_ask_for_the_one_who_chases():
    batch = next(chases(50, seed=1))
    assert (batch.ids_BT[:, 1] == CHASED).all()
    assert (batch.ids_BT[:, 3] == WHO).all()
    assert (batch.ids_BT[:, 0] != batch.ids_BT[:, 2]).all()
    assert (batch.targets_BT[:, :3] == IGNORED).all()
    assert (batch.targets_BT[:, 3] == batch.ids_BT[:, 0]).all()


def test_a_stretch_is_scored_with_all_that_stands_before_it():
    whole = LaggedTokens(0).batch(2, 3 * TRAINED, torch.Generator().manual_seed(0))
    stretch = scored_from(whole, TRAINED)
    assert stretch.length == 2 * TRAINED
    assert torch.equal(stretch.ids_BT, whole.ids_BT[:, : 2 * TRAINED])
    assert (stretch.targets_BT[:, :TRAINED] == IGNORED).all()
    assert torch.equal(stretch.targets_BT[:, TRAINED:], whole.targets_BT[:, TRAINED : 2 * TRAINED])
