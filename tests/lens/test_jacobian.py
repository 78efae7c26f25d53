"""Jacobians against torch.autograd.functional and differences; the power iteration against the SVD."""

import numpy as np
import pytest
import torch

from cutaway.core.errors import ConfigError
from cutaway.lens.jacobian import cut_out, jacobian, jacobian_at, jvp, spectral_norm, vjp
from cutaway.lens.layers import layer_names
from cutaway.nn.attention import Attend

IDS = torch.tensor([[5, 77, 200, 31]])


@pytest.fixture
def cut(any_model):
    return cut_out(any_model, IDS, layer_names(any_model)[-1])


def test_the_jacobian_is_autograd_s(cut):
    found = jacobian(cut.function, cut.x, chunk=40)
    expected = torch.autograd.functional.jacobian(cut.function, cut.x)
    torch.testing.assert_close(found, expected.reshape(96, 96), rtol=1e-9, atol=1e-11)
    assert found.dtype == torch.float64


def test_products_are_the_jacobian_s(cut):
    J = jacobian(cut.function, cut.x)
    u, v = torch.randn_like(cut.x), torch.randn_like(cut.x)
    torch.testing.assert_close(jvp(cut.function, cut.x, v).flatten(), J @ v.flatten())
    torch.testing.assert_close(vjp(cut.function, cut.x, u).flatten(), J.T @ u.flatten())
    step = 1e-4  # routers compute in float32
    with torch.no_grad():
        slope = (cut.function(cut.x + step * v) - cut.function(cut.x - step * v)) / (2 * step)
    torch.testing.assert_close(jvp(cut.function, cut.x, v), slope, rtol=1e-3, atol=1e-4)


def test_one_position_is_a_block_of_the_whole(cut):
    J = jacobian(cut.function, cut.x).reshape(4, 24, 4, 24)
    torch.testing.assert_close(jacobian_at(cut.function, cut.x, 2), J[2, :, 2])
    torch.testing.assert_close(jacobian_at(cut.function, cut.x, 3, source=1), J[3, :, 1])


def test_the_spectral_norm_is_the_largest_singular_value(cut):
    values = np.linalg.svd(jacobian(cut.function, cut.x).numpy(), compute_uv=False)
    found = spectral_norm(cut.function, cut.x, steps=200)
    assert found <= values[0] * (1 + 1e-9)
    assert found == pytest.approx(values[0], rel=1e-2)


def test_known_functions():
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    scale = torch.tensor([3.0, -7.0, 1.0, 2.0], dtype=torch.float64)
    assert spectral_norm(lambda x: x * scale, x) == pytest.approx(7)
    assert spectral_norm(lambda x: x * 0, x) == 0
    torch.testing.assert_close(jacobian_at(lambda x: x * scale, x, 1), torch.diag(scale))


def test_a_causal_block_does_not_look_ahead(model):
    cut = cut_out(model, IDS, layer_names(model)[1])
    assert not jacobian_at(cut.function, cut.x, 1, source=2).any()
    assert jacobian_at(cut.function, cut.x, 2, source=1).any()


def test_the_model_stays_as_it_was(model):
    before = {name: (weight.dtype, weight.clone()) for name, weight in model.named_parameters()}
    cut_out(model, IDS, layer_names(model)[0])
    for name, weight in model.named_parameters():
        assert weight.dtype == before[name][0]
        assert weight.requires_grad
        assert torch.equal(weight, before[name][1])


def test_attention_elsewhere_stays_fused(model):
    """Replies run beside: neither torch's choice of kernels nor the model's own changes, not even meanwhile."""
    seen = []

    def looked(block, *inputs):
        backends = {module.backend for module in model.modules() if isinstance(module, Attend)}
        seen.append(
            (backends, torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled())
        )

    cut = cut_out(model, IDS, layer_names(model)[0])
    handle = torch.nn.modules.module.register_module_forward_pre_hook(looked)
    try:
        spectral_norm(cut.function, cut.x, steps=1)
        jacobian_at(cut.function, cut.x, 0)
    finally:
        handle.remove()
    assert seen
    assert all(one == ({"sdpa"}, True, True) for one in seen)


def test_an_unknown_block_is_named(model):
    with pytest.raises(ConfigError, match="no such module"):
        cut_out(model, IDS, "model.layers.99")
