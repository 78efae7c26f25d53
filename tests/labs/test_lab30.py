import math

import pytest
import torch

from cutaway.labs.contract import verdict
from cutaway.labs.lab30_relu import COMPARED, LAB, derivatives, exchange, shaped, through_stack
from cutaway.models.composed import dense
from cutaway.nn.activation import ACTIVATIONS


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(30)


def test_a_vanishing_relu_would_refute_the_claim(numbers):
    gone = [1e-9 if name == "relu" else value for name, value in zip(COMPARED, numbers["stack"], strict=True)]
    assert verdict(LAB.checks, {**numbers, "stack": gone})[0] == "refuted"


def test_derivatives_are_those_of_calculus():
    assert derivatives(torch.square, (3.0, -1.0)) == [6, -2]
    assert derivatives(ACTIVATIONS["relu2"], (-1.0, 2.0)) == [0, 4]
    assert math.isclose(derivatives(ACTIVATIONS["silu"], (0.0,))[0], 0.5)


def test_a_saturating_function_takes_the_place_of_relu():
    layer = dense(shaped("sigmoid"))
    before = layer(torch.ones(64))
    exchange(layer, "sigmoid")
    hidden = torch.sigmoid(layer.up_proj(torch.ones(64)))
    assert torch.allclose(layer(torch.ones(64)), layer.down_proj(hidden))
    assert not torch.allclose(layer(torch.ones(64)), before)


def test_gated_layers_have_as_many_parameters():
    plain, gated = (sum(p.numel() for p in dense(shaped(name)).parameters()) for name in ("relu", "swiglu"))
    assert abs(plain - gated) < 0.02 * plain


def test_a_layer_of_half_the_gain_halves_the_square_of_the_gradient():
    torch.manual_seed(0)
    doubled = through_stack("relu", norm="none", gain=2.0)
    torch.manual_seed(0)
    assert math.isclose(through_stack("relu", norm="none", gain=1.0) / doubled, 2**-25, rel_tol=1e-3)
