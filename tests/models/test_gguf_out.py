"""GGUF files written from models, read back."""

import pytest
import torch

from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.gguf_file import open_gguf
from cutaway.models.gguf_out import write_gguf
from cutaway.models.gpt2 import GPT2, GPT2Config
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.models.load import load
from cutaway.nn.rope import RopeScaling
from cutaway.quant.quantise import QuantConfig, quantise
from cutaway.quant.tensor import QuantTensor

SHAPE = dict(
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
KINDS = {
    "llama": {},
    "llama, untied, biased": {"tie_word_embeddings": False, "attention_bias": True, "attention_output_bias": True},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2", "attention_bias": True, "rope_theta": 1e6, "rms_norm_eps": 1e-6},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    "llama3": {
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 16},
    },
}


@pytest.fixture(scope="module")
def tokenizer(tiny_chat):
    return tiny_chat(64).tokenizer


def small(tokenizer, **changed) -> Llama:
    torch.manual_seed(0)
    model = Llama(LlamaConfig(vocab_size=tokenizer.vocab_size, **{**SHAPE, **changed})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back(kind, tokenizer, tmp_path):
    model = small(tokenizer, **KINDS[kind])
    write_gguf(model, tokenizer, tmp_path / "out.gguf", "small")
    again = load(tmp_path / "out.gguf", dtype="float32", device="cpu")
    ours, theirs = dict(model.named_parameters()), dict(again.model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ids = torch.tensor([again.tokenizer.encode("the tide is out")])
    with torch.inference_mode():
        assert torch.equal(model.logits(model(ids)), again.model.logits(again.model(ids)))


@pytest.mark.parametrize("format", ["Q4_0", "Q5_K", "Q6_K", "BF16"])
def test_quantised_weights_come_back_block_by_block(format, tokenizer, tmp_path):
    model = small(tokenizer)
    quantise(model, QuantConfig(format=format, embedding="Q8_0"))
    write_gguf(model, tokenizer, tmp_path / "out.gguf", "small")
    again = load(tmp_path / "out.gguf", dtype="stored", device="cpu").model
    for name, weight in again.named_parameters():
        ours = model.get_parameter(name)
        assert isinstance(weight.data, QuantTensor) == isinstance(ours.data, QuantTensor)
        if isinstance(weight.data, QuantTensor):
            assert weight.format == ours.format
            assert torch.equal(weight.tiles, ours.tiles)
    metadata = open_gguf(tmp_path / "out.gguf").metadata
    assert metadata["general.name"] == "small"
    assert metadata["llama.attention.key_length"] == 16


def test_the_file_of_llama_cpp_is_written_again(smollm2, tmp_path):
    """The packaged file through our model and back: the same tensors, byte for byte, in another order."""
    loaded = load(smollm2, dtype="stored", device="cpu")
    write_gguf(loaded.model, loaded.tokenizer, tmp_path / "again.gguf", "again")
    theirs, ours = open_gguf(smollm2), open_gguf(tmp_path / "again.gguf")
    wanted = {tensor.name: tensor for tensor in theirs.tensors}
    assert {tensor.name for tensor in ours.tensors} == set(wanted)
    for tensor in ours.tensors:
        assert tensor.kind == wanted[tensor.name].kind
        assert tensor.data.tobytes() == wanted[tensor.name].data.tobytes(), tensor.name
    shared = {name: value for name, value in theirs.metadata.items() if name.startswith("llama.")}
    assert shared == {name: ours.metadata[name] for name in shared}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "mistral", "sliding_window": 8}, r"sliding_window=8: a GGUF file cannot hold this"),
        ({"mlp_bias": True}, "a GGUF file cannot hold this|tensors do not fit"),
        ({"rope_scaling": RopeScaling(rope_type="dynamic", factor=2.0)}, r"rope_scaling.*cannot hold this"),
    ],
)
def test_what_such_files_cannot_hold_is_named_and_nothing_is_written(changed, message, tokenizer, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        write_gguf(small(tokenizer, **changed), tokenizer, tmp_path / "out.gguf", "small")
    assert list(tmp_path.iterdir()) == []


def test_other_families_are_named(tokenizer, tmp_path):
    model = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="model='gpt2': only the Llama family"):
        write_gguf(model, tokenizer, tmp_path / "out.gguf", "small")
