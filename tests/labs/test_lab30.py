import math

import pytest
import torch

from cutaway.labs.contract import Setting, verdict
from cutaway.labs.lab30_relu import COMPARED, LAB, derivatives, exchange, measure, shaped, through_stack
from cutaway.models.composed import dense
from cutaway.nn.activation import ACTIVATIONS


@pytest.fixture(scope="module")
def numbers():
    return measure(Setting())


def test_verdict_is_the_expected_one(numbers):
    fixed_times = {**numbers, "kernel_ms": [0.4, 0.9, 0.6, 1.0, 0.5, 1.6]}  # a busy machine is no finding
    assert verdict(LAB.checks, fixed_times)[0] == LAB.expected, numbers
    assert min(numbers["kernel_ms"]) > 0
    LAB.draw(numbers)


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
