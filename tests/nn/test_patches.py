"""Patches and activations, from their definitions."""

import math

import pytest
import torch

from cutaway.core.errors import CheckpointError, DataError
from cutaway.nn.activation import ACTIVATIONS, check_activation
from cutaway.nn.patches import PatchEmbedding, count_patches, patchify


@torch.no_grad()
def test_a_patch_is_its_pixels_through_one_linear_layer():
    torch.manual_seed(0)
    embed = PatchEmbedding(channels=2, width=7, image_size=(5, 6), patch_size=(2, 3))
    pixels_BCHW = torch.randn(3, 2, 5, 6)
    found_BND = embed(pixels_BCHW)
    assert found_BND.shape == (3, count_patches((5, 6), (2, 3)), 7) == (3, 4, 7)
    last = pixels_BCHW[:, :, 2:4, 3:6].flatten(1) @ embed.weight.flatten(1).T + embed.bias
    torch.testing.assert_close(found_BND[:, 3], last)
    assert embed.bfloat16()(pixels_BCHW).dtype == torch.bfloat16  # pixels are float32 whatever the weights are
    with pytest.raises(DataError, match=r"pixels='2×6×5': .*must be 2×5×6"):
        embed(torch.zeros(1, 2, 6, 5))


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_patchify_gives_what_the_embedding_multiplies(size):
    torch.manual_seed(0)
    embed, image_CHW = PatchEmbedding(3, 7, size, (2, 3)), torch.randn(3, *size)
    patches_NF = patchify(image_CHW, (2, 3))
    assert patches_NF.shape == (count_patches(size, (2, 3)), 18)
    torch.testing.assert_close(patches_NF @ embed.weight.flatten(1).T + embed.bias, embed(image_CHW[None])[0])


def test_activations():
    for x in (-3.0, -0.5, 0.0, 0.7, 4.0):
        gelu = x * (1 + math.erf(x / math.sqrt(2))) / 2
        tanh = x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        expected = {
            "gelu": gelu,
            "gelu_new": tanh,
            "gelu_pytorch_tanh": tanh,
            "quick_gelu": x / (1 + math.exp(-1.702 * x)),
            "relu": max(0.0, x),
            "relu2": max(0.0, x) ** 2,
            "silu": x / (1 + math.exp(-x)),
        }
        found = {name: float(function(torch.tensor(x))) for name, function in ACTIVATIONS.items()}
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gelu_is_the_same_compiled(dtype):
    x = torch.linspace(-9, 9, 1001, dtype=dtype, requires_grad=True)
    compiled = torch.compile(ACTIVATIONS["gelu_new"], backend="eager", fullgraph=True)
    for function in (compiled, ACTIVATIONS["gelu_new"]):
        y = function(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        want = torch.nn.functional.gelu(x, approximate="tanh")
        torch.testing.assert_close(y, want)
        torch.testing.assert_close(grad, torch.autograd.grad(want.sum(), x)[0])


def test_an_activation_that_is_not_here():
    check_activation({}, "hidden_act")
    with pytest.raises(CheckpointError, match=r"hidden_act='glu': unsupported"):
        check_activation({"hidden_act": "glu"}, "hidden_act")
