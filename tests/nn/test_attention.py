"""The backends against each other and against the equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from cutaway.core.errors import ConfigError
from cutaway.nn.attention import BACKENDS, Attend, attend_tiled, attention_weights


def tensors(B, H, G, T, S, K, dtype=torch.float32, spread=1.0):
    torch.manual_seed(B + 10 * H + 100 * T + S)
    shapes = ((B, H, T, K), (B, G, S, K), (B, G, S, K))
    return [(torch.randn(shape) * spread).to(dtype) for shape in shapes]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 17),
    st.integers(0, 17),
    st.sampled_from(["causal", "random", "all"]),
)
def test_backends_equal_the_equation(B, G, group, T, before, kind):
    q, k, v = tensors(B, G * group, G, T, T + before, 6)
    mask = None
    if kind == "random":
        mask = torch.rand(B, 1, T, T + before) < 0.5
        mask[..., 0] = True
    if kind == "all":
        mask = torch.ones(1, 1, 1, T + before, dtype=torch.bool)
    expected = BACKENDS["reference"](q, k, v, mask, 0.4)
    for backend in (BACKENDS["sdpa"], lambda *given: attend_tiled(*given, tile=5)):
        torch.testing.assert_close(backend(q, k, v, mask, 0.4), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_float64_stays_float64(backend):
    """Finite differences and Jacobians of float64 models need it."""
    q, k, v = tensors(1, 2, 1, 5, 5, 6, torch.float64)
    wanted = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.4, enable_gqa=True)
    torch.testing.assert_close(BACKENDS[backend](q, k, v, None, 0.4), wanted, atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("backend", [*BACKENDS, "tiles of 5"])
@pytest.mark.parametrize("bias_shape", [(1, 4, 9, 13), (2, 1, 1, 13), (2, 4, 9, 13), (9, 13)])
@pytest.mark.parametrize("masked", [True, False])
def test_a_bias_is_added_to_the_scores(backend, bias_shape, masked):
    """Against torch, which takes the mask as part of the bias; the bias learns too."""
    q, k, v = tensors(2, 4, 2, 9, 13, 6)
    bias = torch.randn(bias_shape, requires_grad=True)
    mask = None
    if masked:
        mask = torch.rand(2, 1, 9, 13) < 0.6
        mask[..., 0] = True
    allowed = torch.ones(9, 13, dtype=torch.bool).tril(4) if mask is None else mask
    whole = bias.expand(2, 4, 9, 13).masked_fill(~allowed, -math.inf)
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=whole, scale=0.3, enable_gqa=True)
    attend = BACKENDS.get(backend, lambda *given, bias: attend_tiled(*given, 5, bias=bias))
    found = attend(q, k, v, mask, 0.3, bias=bias)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(out.sin().sum(), bias)[0] for out in (found, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_module_passes_the_bias_on(backend):
    q, k, v = tensors(1, 2, 1, 1, 5, 4)
    bias = torch.randn(1, 2, 1, 5)
    attend = Attend(0.5, backend)
    weights = attend.weights(q, k, None, bias)
    torch.testing.assert_close(attend(q, k, v, None, bias), weights @ v, atol=1e-5, rtol=1e-5)
    assert attend(*(x.bfloat16() for x in (q, k, v)), None, bias).dtype == torch.bfloat16


def test_one_head_by_hand():
    """Two keys with scores 0 and ln 3: the weights are 1/4 and 3/4."""
    q = torch.tensor([[[[1.0, 0.0]]]])
    k = torch.tensor([[[[0.0, 5.0], [math.log(3), 7.0]]]])
    v = torch.tensor([[[[0.0, 8.0], [4.0, 0.0]]]])
    assert attention_weights(q, k, None, 1.0).flatten().tolist() == pytest.approx([0.25, 0.75])
    assert BACKENDS["reference"](q, k, v, None, 1.0).flatten().tolist() == pytest.approx([3.0, 2.0])


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_a_row_that_may_attend_to_nothing_is_zero(backend):
    q, k, v = tensors(1, 2, 1, 3, 3, 4)
    mask = torch.ones(3, 3, dtype=torch.bool).tril()
    mask[1] = False
    out = BACKENDS[backend](q, k, v, mask, 1.0)
    assert (out[:, :, 1] == 0).all()
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_scores_stay_finite(backend):
    q, k, v = tensors(1, 2, 2, 9, 9, 8, spread=300.0)
    out = BACKENDS[backend](q, k, v, None, 1.0)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out, BACKENDS["reference"](q, k, v, None, 1.0), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dtype_and_gradients(backend):
    q, k, v = (x.requires_grad_() for x in tensors(2, 4, 2, 7, 7, 4))
    wanted = torch.autograd.grad(BACKENDS["reference"](q, k, v, None, 0.5).sin().sum(), (q, k, v))
    found = torch.autograd.grad(BACKENDS[backend](q, k, v, None, 0.5).sin().sum(), (q, k, v))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert BACKENDS[backend](*(x.bfloat16() for x in (q, k, v)), None, 0.5).dtype == torch.bfloat16


def test_unknown_backend_names_the_known():
    with pytest.raises(ConfigError, match=r"attention='flsh'.*known: reference, sdpa, tiled"):
        Attend(1.0, "flsh")
