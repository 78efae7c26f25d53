"""Modules with quantised weights compute what they would with the weights written out."""

import pytest
import torch
from torch import nn

from cutaway.core import native
from cutaway.quant import kernels
from cutaway.quant.formats import FORMATS
from cutaway.quant.tensor import QuantTensor, dequantise
from tests.quant.blocks import PLAIN, random_rows

CPU = torch.device("cpu")


def linear(name: str, rows: int = 37, bias: bool = True) -> nn.Linear:
    format = FORMATS[name]
    weight = QuantTensor.read(random_rows(format, rows, 3 * 256 // format.columns), format)
    module = nn.Linear(weight.shape[1], rows, bias=bias)
    module.weight = nn.Parameter(weight, requires_grad=False)
    return module


def as_multiplied(x: torch.Tensor, name: str) -> torch.Tensor:
    """As the kernels round vectors, in float64."""
    if name in PLAIN:
        return x.double()
    groups = x.double().unflatten(-1, (-1, 32))
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return ((groups / scale.clamp_min(1e-30)).round() * scale).flatten(-2)


@pytest.mark.skipif(not kernels.available(CPU), reason="no C++ compiler")
@pytest.mark.parametrize("shape", [(1,), (2, 9), (3, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_products_are_exact_on_the_vectors_that_are_multiplied(name, shape):
    module, generator = linear(name), torch.Generator().manual_seed(1)
    x = torch.randn(*shape, module.in_features, generator=generator)
    x[..., :32] = 0
    with torch.inference_mode():
        y = module(x)
    expected = as_multiplied(x, name) @ module.weight.dequantised().double().T + module.bias
    assert y.shape == (*shape, 37)
    assert (y - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("name", FORMATS)
def test_without_kernels_products_are_those_of_the_weights(name, monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda device: False)
    module, ids = linear(name), torch.tensor([[0, 36], [5, 17]])
    x = torch.randn(4, module.in_features, generator=torch.Generator().manual_seed(1))
    assert torch.equal(module(x), x @ module.weight.dequantised().T + module.bias)
    assert torch.equal(nn.functional.embedding(ids, module.weight), module.weight.dequantised()[ids])


@pytest.mark.parametrize("name", FORMATS)
def test_an_embedding_reads_rows(name):
    weight, ids = linear(name).weight, torch.tensor([[0, 36], [5, 17]])
    assert torch.equal(nn.functional.embedding(ids, weight), weight.dequantised()[ids])


def test_gradients_go_through_to_the_vectors():
    module = linear("Q4_1")
    x = torch.randn(2, module.in_features, requires_grad=True)
    module(x).sum().backward()
    torch.testing.assert_close(x.grad, module.weight.dequantised().sum(0).expand(2, -1))


def test_a_quantised_parameter_is_an_ordinary_parameter():
    module = linear("Q8_0")
    tied = nn.Embedding(37, module.in_features, device="meta")
    tied.weight = module.weight
    assert tied.weight.shape == (37, 768)
    assert tied.weight.dtype == torch.float32
    assert torch.equal(tied.weight + 0, module.weight.dequantised())
    state = module.state_dict()
    other = nn.Linear(768, 37, device="meta")
    other.load_state_dict(state, assign=True)
    assert isinstance(other.weight, QuantTensor)
    assert torch.equal(other.weight.tiles, module.weight.tiles)


def test_a_change_of_a_header_compiles_anew(tmp_path, monkeypatch):
    (tmp_path / "one.cpp").write_text('#include "number.h"\nextern "C" int one() { return NUMBER; }')
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    for number in (1, 2):
        (tmp_path / "number.h").write_text(f"#define NUMBER {number}")
        assert native.native_library.__wrapped__("one").one() == number


def test_weights_are_written_out_where_they_are_and_shared_as_before():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear("Q4_K")
            self.head = nn.Linear(768, 37, bias=False, device="meta")
            self.head.weight = self.inner.weight

    model = Tied()
    expected, x = model.inner.weight.dequantised(), torch.randn(3, 768)
    dequantise(model)
    assert model.head.weight is model.inner.weight
    assert type(model.head.weight) is nn.Parameter
    assert torch.equal(model.head(x), x @ expected.T)
