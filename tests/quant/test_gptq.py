"""Rounding by what a layer reads."""

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import nn

from cutaway.quant.calibration import Calibrated, inputs_of
from cutaway.quant.encode import RULES, encode
from cutaway.quant.gptq import gptq
from cutaway.quant.quantise import QuantConfig, plan, quantise


def read(blocks: torch.Tensor, name: str) -> torch.Tensor:
    return torch.from_numpy(dequantize(blocks.numpy(), GGMLQuantizationType[name]))


@pytest.fixture(scope="module")
def layer() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and inputs whose features go together and differ in size."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(600, 40, generator=generator) @ torch.randn(40, 256, generator=generator)
    x_NC = (common + torch.randn(600, 256, generator=generator)) * (0.5 + torch.rand(256, generator=generator))
    return torch.randn(24, 256, generator=generator) * 0.05, x_NC


@pytest.mark.parametrize("name", RULES)
def test_outputs_come_nearer_than_with_nearest_codes(layer, name):
    weights, x_NC = layer
    wanted = x_NC @ weights.T
    errors = [
        ((x_NC @ read(blocks, name).T - wanted) ** 2).mean().item()
        for blocks in (gptq(weights, x_NC.T @ x_NC, name), encode(weights, name))
    ]
    assert errors[0] < 0.5 * errors[1]


def test_codes_equal_a_loop_as_the_paper_states_it(layer):
    """The optimal update written out (equations 2 and 3 of the paper): the inverse of what remains of H, after every column."""
    weights, x_NC = layer[0][:, :32], layer[1][:, :32]
    H = (x_NC.T @ x_NC).double()
    found = read(gptq(weights, H.float(), "Q4_0"), "Q4_0").double()
    scale = found.abs().amax(1) / 8  # every row has a code of −8, so that its scale can be read off
    scale = torch.where((found / scale[:, None]).min(1).values <= -7.99, scale, -scale)
    left, H = weights.double().clone(), H + 0.3 * torch.diag(H.diagonal() + H.diagonal().median())
    for j in range(32):
        code = (left[:, j] / scale).round().clamp(-8, 7)
        inverse = torch.linalg.inv(H[j:, j:])
        error = (left[:, j] - code * scale) / inverse[0, 0]
        left[:, j:] -= torch.outer(error, inverse[0])
        left[:, j] = code * scale
    same = (found - left).abs().amax(1) < 1e-6
    assert same.float().mean() > 0.8  # the others never use the outermost code


def test_features_of_very_different_sizes(layer):
    """Nothing that small features could mend for large ones makes their weights grow beyond the codes."""
    weights, x_NC = layer[0], layer[1] * torch.rand(256, generator=torch.Generator().manual_seed(1)) ** 4
    wanted = x_NC @ weights.T
    found, nearest = gptq(weights, x_NC.T @ x_NC, "Q4_0"), encode(weights, "Q4_0")
    errors = [((x_NC @ read(blocks, "Q4_0").T - wanted) ** 2).mean() for blocks in (found, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_features_that_are_never_read_are_rounded_to_the_nearest(layer):
    weights, x_NC = layer[0], layer[1].clone()
    x_NC[:, 100:] = 0
    assert torch.isfinite(read(gptq(weights, x_NC.T @ x_NC, "Q4_K"), "Q4_K")).all()
    assert torch.equal(gptq(weights, torch.zeros(256, 256), "Q4_0"), encode(weights, "Q4_0"))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(40, 64)
        self.first, self.second, self.unused = nn.Linear(64, 96), nn.Linear(96, 64), nn.Linear(64, 64)
        self.output = nn.Linear(64, 40, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids):
        return self.output(self.second(self.first(self.embedding(ids)).relu()))


def test_inputs_are_summed_up_over_all_readings():
    model, ids = Two(), torch.arange(40)
    sums = inputs_of([model.first, model.unused], lambda: [model(ids[:16]), model(ids[16:].view(2, 12))])
    assert set(sums) == {model.first}
    x = model.embedding.weight.detach()
    torch.testing.assert_close(sums[model.first], x.T @ x)
    assert not model.first._forward_pre_hooks


@pytest.mark.parametrize(("most_bytes", "readings"), [(1 << 20, 1), (1, 3)])
def test_a_model_is_calibrated_in_as_many_readings_as_memory_asks_for(most_bytes, readings):
    model, reference, ids, read_ = Two(), Two(), torch.arange(40), []
    config = QuantConfig(format="Q4_0", embedding="Q8_0")
    encoder = Calibrated(plan(model, config)[0], lambda: read_.append(model(ids)), most_bytes)
    done = quantise(model, config, encoder)
    assert len(read_) == readings
    assert set(done.formats) == {"embedding.weight", "first.weight", "second.weight", "unused.weight"}
    nearest = Two()
    quantise(nearest, config)
    assert torch.equal(model.unused.weight.tiles, nearest.unused.weight.tiles)
    assert torch.equal(model.embedding.weight.tiles, nearest.embedding.weight.tiles)
    with torch.no_grad():
        errors = [(one(ids) - reference(ids)).square().mean() for one in (model, nearest)]
    assert errors[0] < 0.8 * errors[1]
