"""Lab 39: its measures on known cases."""

import pytest
import torch

from cutaway.labs import lab39_discriminative_generative as lab
from cutaway.labs.contract import verdict


def test_error_counts_wrong_bests():
    scores_BY = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]])
    assert lab.error(scores_BY, torch.tensor([1, 0, 1])) == pytest.approx(1 / 3)


def test_told_apart_is_the_area_under_the_curve():
    digits_BN, strange_BN = torch.tensor([[3.0], [1.0]]), torch.tensor([[2.0], [0.0]])
    assert lab.told_apart(lambda x_BN: x_BN[:, 0], digits_BN, strange_BN) == 0.75
    assert lab.told_apart(lambda x_BN: x_BN[:, 0], digits_BN + 9, strange_BN) == 1


def test_a_copy_is_noticed():
    real_BN = torch.eye(4)
    assert lab.nearest(real_BN[2:3], real_BN) == 0
    assert lab.nearest(torch.zeros(1, 4), real_BN) == 1


def test_shuffling_keeps_the_ink():
    pixels_BN = torch.rand(3, 64)
    assert torch.allclose(lab.shuffled(pixels_BN).sum(-1), pixels_BN.sum(-1))


def test_a_generator_that_cannot_classify_lifts_that_limit():
    numbers = {
        "error_classifier": 0.02,
        "error_bayes": 0.5,
        "drawn_as_asked": 1.0,
        "nearest_real": 0.4,
        "tells_no_digit_density": 0.9,
        "tells_no_digit_confidence": 0.95,
    }
    assert verdict(lab.LAB.checks, numbers)[0] == "supported"
