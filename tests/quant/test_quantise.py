"""Surgery on ordinary models."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError
from cutaway.models import composed, gpt2, llama, t5
from cutaway.models.bert import BertConfig
from cutaway.models.bert_heads import MaskedLM
from cutaway.models.llama_config import LlamaConfig
from cutaway.models.t5_config import T5Config
from cutaway.quant.encode import encode
from cutaway.quant.formats import FORMATS
from cutaway.quant.quantise import QuantConfig, quantise
from cutaway.quant.tensor import QuantTensor


class Small(nn.Module):
    """A head tied to its embedding, rows of three widths, a convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 64)
        self.up, self.narrow, self.down = nn.Linear(64, 256), nn.Linear(64, 48), nn.Linear(256, 64)
        self.odd, self.conv = nn.Linear(48, 7), nn.Conv1d(3, 3, 2)
        self.norm = nn.LayerNorm(64)
        self.output = nn.Linear(64, 50, bias=False)
        self.output.weight = self.embedding.weight


def test_each_matrix_has_its_format_and_the_rest_is_named():
    model = Small()
    was = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    done = quantise(model, QuantConfig(format="Q4_K", embedding="Q6_K"))
    assert done.formats == {
        "embedding.weight": "Q8_0",
        "up.weight": "Q5_0",
        "narrow.weight": "Q5_0",
        "down.weight": "Q4_K",
    }
    assert set(done.left) == {"odd.weight", "conv.weight"}
    assert "48 columns are no multiple of 32" in done.left["odd.weight"]
    assert model.output.weight is model.embedding.weight
    for name, parameter in model.named_parameters():
        if name in done.formats:
            expected = QuantTensor.read(encode(was[name], done.formats[name]), FORMATS[done.formats[name]])
            assert torch.equal(parameter.dequantised(), expected.dequantised())
            assert not parameter.requires_grad
        else:
            assert torch.equal(parameter, was[name])


def test_what_is_quantised_stays_as_it_is():
    model = Small()
    quantise(model, QuantConfig(format="Q8_0"))
    tiles = model.up.weight.tiles
    with pytest.raises(ConfigError, match=r"format='Q4_0': has no matrix"):
        quantise(model, QuantConfig(format="Q4_0"))
    assert model.up.weight.tiles is tiles


def test_a_model_in_16_bits_becomes_float32():
    model = Small().bfloat16()
    quantise(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_weights_that_no_half_can_scale_are_named():
    model = Small()
    model.up.weight.data[3, 5] = 1e7
    with pytest.raises(ConfigError, match=r"up\.weight='Q5_0': holds weights beyond"):
        quantise(model)


def test_an_unknown_format_is_named():
    with pytest.raises(ConfigError, match=r"format='Q3_K'"):
        load_config(QuantConfig, None, ["format=Q3_K"])


def small(kind: str) -> tuple[nn.Module, Callable[[nn.Module], torch.Tensor]]:
    """A model, and its logits on something."""
    torch.manual_seed(0)
    ids = torch.arange(24).view(2, 12)
    shape = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    if kind == "t5":
        config = T5Config(vocab_size=96, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)
        return t5.build(config).eval(), lambda model: model.logits(model(ids, model.encode(ids)))
    if kind == "bert":
        return MaskedLM(BertConfig(head="masked", **shape)).eval(), lambda model: model(ids)
    module, config = {
        "llama": (llama, LlamaConfig(**shape, num_key_value_heads=2)),
        "gpt2": (gpt2, gpt2.GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4)),
        "composed": (composed, composed.ComposedConfig(**shape)),
    }[kind]
    return module.build(config).eval(), lambda model: model.logits(model(ids))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "composed", "t5", "bert"])
def test_families_compute_as_before(kind):
    model, logits = small(kind)
    with torch.inference_mode():
        before = logits(model)
        done = quantise(model, QuantConfig(format="Q8_0"))
        after = logits(model)
    assert (after - before).abs().max() < 0.03 * before.abs().max()
    assert len(done.formats) == {"llama": 15, "gpt2": 10, "composed": 15, "t5": 33, "bert": 16}[kind]
    assert set(done.left) <= {
        f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for side in ("encoder", "decoder")
    }
