"""Lab 6: its measures against closed forms."""

import math

import pytest
import torch

from cutaway.labs.lab06_temperature import closed_form_difference, mean_entropy_bits


def test_entropy_of_known_distributions():
    assert mean_entropy_bits(torch.zeros(3, 8), 0.7) == pytest.approx(3)
    two = torch.tensor([[0.0, math.log(3.0)]])
    assert mean_entropy_bits(two, 1.0) == pytest.approx(0.811278, abs=1e-5)


def test_the_chain_meets_the_closed_form():
    assert closed_form_difference(torch.randn(50, generator=torch.Generator().manual_seed(0)), 0.3) < 1e-6
