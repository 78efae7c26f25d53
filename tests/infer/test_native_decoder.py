"""The decoder in C++ against the ordinary modules, on the same quantised weights."""

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from torch import nn

from cutaway.infer.blocks import BLOCK_SIZE
from cutaway.infer.native_decoder import NativeDecoder, suits
from cutaway.infer.runner import Work
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.quant import kernels
from cutaway.quant.formats import FORMATS
from cutaway.quant.tensor import QuantTensor

pytestmark = pytest.mark.skipif(not kernels.available(torch.device("cpu")), reason="no C++ compiler")

SMALL = {
    "vocab_size": 83,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
}
SHAPES = {
    "plain": {},
    "untied, no groups": {"tie_word_embeddings": False, "num_key_value_heads": 6},
    "one key-value head": {"num_key_value_heads": 1, "num_attention_heads": 5, "head_dim": 64},
    "biases": {"attention_bias": True, "attention_output_bias": True, "mlp_bias": True},
    "norms of queries and keys": {"model_type": "qwen3", "head_dim": 16},
    "window": {"model_type": "mistral", "sliding_window": 19},
    "scaled positions": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
}


def quantised(shape: dict, name: str = "Q8_0") -> Llama:
    """A random model with weights in a format; norms and biases are random too, so that leaving one out shows."""
    torch.manual_seed(0)
    model = Llama(LlamaConfig(**{**SMALL, **shape})).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear | nn.Embedding) and not isinstance(module.weight, QuantTensor):
            blocks = quantize(module.weight.detach().numpy(), GGMLQuantizationType[name])
            weight = QuantTensor.read(torch.from_numpy(blocks), FORMATS[name])
            module.weight = nn.Parameter(weight, requires_grad=False)
    model.tie()
    return model


def float_twin(model: Llama) -> Llama:
    twin = Llama(model.config).eval()
    twin.load_state_dict({name: value + 0 for name, value in model.state_dict().items()})
    return twin


@torch.inference_mode()
def logits_of(model: Llama, ids: list[int]) -> torch.Tensor:
    return model.logits(model(torch.tensor([ids])))[0]


def whole(model: Llama, ids: list[int], table: list[int] | None = None) -> torch.Tensor:
    """All logits of one sequence in one call."""
    table = table or list(range(-(-len(ids) // BLOCK_SIZE)))
    return NativeDecoder(model, max(table) + 1, 256).run([Work(ids, 0, table, range(len(ids)))])


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_as_near_to_floats_as_those_of_the_modules(shape, name):
    """Vectors of 8 bits cost both the same; each rounds at places of its own, so they do not agree to the last bit."""
    model, ids = quantised(SHAPES[shape], name), torch.randint(83, (70,)).tolist()
    exact = logits_of(float_twin(model), ids)
    by_modules, by_decoder = (other - exact for other in (logits_of(model, ids), whole(model, ids)))
    assert suits(model)
    assert by_decoder.norm() < 1.3 * by_modules.norm()
    assert by_decoder.norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_any_split_of_the_work_gives_the_same_bits(shape):
    """One token at a time, in uneven parts, beside other sequences, in scattered blocks."""
    model, ids = quantised(SHAPES[shape], "Q4_1"), torch.randint(83, (50,)).tolist()
    expected = whole(model, ids)
    assert torch.equal(whole(model, ids, [9, 2, 5, 0]), expected)
    decoder, others = NativeDecoder(model, 20, 256), torch.randint(83, (50,)).tolist()
    tables = [[3, 17, 4, 11], [0, 1, 2, 5]]
    start, found = 0, []
    for length in (1, 16, 1, 1, 20, 11):
        beside = 2 * start // 3
        mine = Work(ids[start : start + length], start, tables[0], range(length))
        found.append(decoder.run([Work(others[beside : beside + 1], beside, tables[1], []), mine]))
        start += length
    assert torch.equal(torch.cat(found), expected)


def test_threads_change_nothing():
    model, ids = quantised({}), torch.randint(83, (40,)).tolist()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = whole(model, ids)
        torch.set_num_threads(3)
        assert torch.equal(whole(model, ids), one)
    finally:
        torch.set_num_threads(before)


def test_a_copied_block_holds_the_same():
    model, ids = quantised({}), torch.randint(83, (40,)).tolist()
    decoder = NativeDecoder(model, 8, 256)
    expected = decoder.run([Work(ids, 0, [0, 1, 2], range(40))])
    decoder.copy(1, 6)
    assert torch.equal(decoder.run([Work(ids[32:], 32, [0, 6, 3], range(8))]), expected[32:])


def test_what_is_not_a_number_spoils_its_own_sequence_only():
    model = quantised({"tie_word_embeddings": False})
    decoder = NativeDecoder(model, 8, 256)
    good = Work([5, 6, 7], 0, [0], [0, 1, 2])
    expected = decoder.run([good])
    decoder.values_LNGPK[1, 3] = torch.inf  # of an earlier position of the other sequence
    both = decoder.run([good, Work([8, 9], 1, [3], [0, 1])])
    assert torch.equal(both[:3], expected)
    assert both[3:].isnan().all()


def test_models_that_it_cannot_compute_are_told_apart():
    assert suits(quantised({}))
    assert not suits(Llama(LlamaConfig(**SMALL)))
    assert not suits(quantised({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}))
    assert not suits(quantised({"sliding_window": 30, "attention_sinks": 2}))
    half = quantised({})
    half.model.layers[1].mlp.up_proj = nn.Linear(64, 96, bias=False)
    assert not suits(half)
