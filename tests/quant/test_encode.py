"""Weights to blocks: against other quantisers, and against what no search can beat."""

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from cutaway.quant.encode import RULES, encode
from cutaway.quant.formats import FORMATS

# Mean squared error of llama.cpp's own quantiser (ggml_quantize_chunk of version 0.3.36 of its Python package) on `weights()`.
LLAMA_CPP = {
    "Q4_0": 1.872e-05,
    "Q4_1": 1.558e-05,
    "Q5_0": 4.574e-06,
    "Q5_1": 3.628e-06,
    "Q8_0": 7.219e-08,
    "Q4_K": 1.297e-05,
    "Q5_K": 3.288e-06,
    "Q6_K": 7.939e-07,
}


def weights(R: int = 16, C: int = 1024) -> torch.Tensor:
    return torch.randn(R, C, generator=torch.Generator().manual_seed(0)) * 0.05


def read(blocks: torch.Tensor, name: str) -> torch.Tensor:
    return torch.from_numpy(dequantize(blocks.numpy(), GGMLQuantizationType[name]))


def error(x: torch.Tensor, blocks: torch.Tensor, name: str, importance: torch.Tensor | float = 1.0) -> float:
    return (importance * (x - read(blocks, name)) ** 2).mean().item()


@pytest.mark.parametrize("name", RULES)
def test_nearer_than_llama_cpp(name):
    assert error(weights(), encode(weights(), name), name) < LLAMA_CPP[name]


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_nearer_than_the_gguf_package_on_weights_with_long_tails(name):
    x = weights() ** 3
    theirs = torch.from_numpy(quantize(x.numpy(), GGMLQuantizationType[name]))
    assert error(x, encode(x, name), name) < 0.97 * error(x, theirs, name)


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_numbers_of_16_bits_are_rounded(name):
    x = weights()
    assert torch.equal(read(encode(x, name), name), x.to(FORMATS[name].dtype).float())


@pytest.mark.parametrize("name", RULES)
def test_important_columns_come_nearer(name):
    x = weights()
    importance = torch.ones(x.shape[1])
    importance[::4] = 100.0
    weighed, plain = encode(x, name, importance), encode(x, name)
    assert error(x, weighed, name, importance) < 0.9 * error(x, plain, name, importance)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [0.0, 0.3, -0.3, 1e-30, 1000.0])
def test_weights_that_are_all_the_same(name, value):
    x = torch.full((2, 512), value)
    assert (read(encode(x, name), name) - x).abs().max() <= 4e-4 * abs(value) + 1e-7


@pytest.mark.parametrize("name", RULES)
def test_what_a_format_holds_comes_back(name):
    """Weights that lie on a format's own grid: the search finds that grid again, or one as good."""
    x = read(encode(weights(), name), name)
    lost = error(x, encode(x, name), name) / error(weights(), encode(weights(), name), name)
    assert lost < 0.02


def test_a_group_is_as_near_as_its_best_scale():
    """Against all scales on a fine grid, each with its nearest codes."""
    x = weights(8, 32)
    scales = torch.linspace(-0.1, 0.1, 20001)[:, None, None]
    codes = (x / scales).nan_to_num(0.0).round().clamp(-8, 7)
    best = ((codes * scales - x) ** 2).mean(-1).min(0).values
    assert ((read(encode(x, "Q4_0"), "Q4_0") - x) ** 2).mean(-1).sum() < 1.03 * best.sum()
