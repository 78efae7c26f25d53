"""Adapters that PEFT reads, and adapters that PEFT wrote."""

import json

import pytest
import torch
from peft import LoraConfig as TheirConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from transformers import LlamaConfig as TheirLlamaConfig
from typer.testing import CliRunner

from cutaway.adapt.lora import LoraConfig, adapted, add_lora
from cutaway.adapt.peft_files import load_adapter, save_adapter
from cutaway.cli.main import app
from cutaway.core.errors import CheckpointError
from cutaway.models.huggingface import load_model

IDS = torch.arange(20).reshape(2, 10)
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"]}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    """A small model as transformers saves it."""
    torch.manual_seed(0)
    if request.param == "llama":
        model = LlamaForCausalLM(
            TheirLlamaConfig(
                vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.2,
                bos_token_id=0, eos_token_id=0, pad_token_id=0,
            )
        )  # fmt: skip
    else:
        shape = {"vocab_size": 37, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32}
        model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.2, bos_token_id=0, eos_token_id=0))
    path = tmp_path_factory.mktemp("models") / request.param
    model.save_pretrained(path)
    return path


def ours(folder):
    return load_model(folder, torch.float32, torch.device("cpu"))


def our_logits(model):
    with torch.no_grad():
        return model.logits(model(IDS))


def their_logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("stabilised", [False, True])
def test_peft_loads_ours(folder, tmp_path, stabilised):
    model, config = (
        ours(folder),
        LoraConfig(rank=3, alpha=5, targets=tuple(TARGETS[folder.name]), rank_stabilised=stabilised),
    )
    plain = our_logits(model)
    add_lora(model, config)
    for _, module in adapted(model):
        nn.init.normal_(module.lora_B, std=0.2)
    save_adapter(model, config, tmp_path / "adapter", str(folder))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    torch.testing.assert_close(their_logits(theirs), our_logits(model), atol=1e-4, rtol=1e-4)
    assert (our_logits(model) - plain).abs().max() > 0.01


@pytest.mark.parametrize("stabilised", [False, True])
def test_we_load_peft_s(folder, tmp_path, stabilised):
    theirs = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        TheirConfig(
            r=3, lora_alpha=5, target_modules=TARGETS[folder.name], use_rslora=stabilised, init_lora_weights=False,
            task_type="CAUSAL_LM", fan_in_fan_out=folder.name == "gpt2",
        ),
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "adapter")
    model = ours(folder)
    config = load_adapter(model, tmp_path / "adapter")
    assert (config.rank, config.alpha, config.rank_stabilised) == (3, 5, stabilised)
    torch.testing.assert_close(our_logits(model), their_logits(theirs), atol=1e-4, rtol=1e-4)


@pytest.fixture
def adapter(folder, tmp_path):
    model, config = ours(folder), LoraConfig(rank=2, targets=tuple(TARGETS[folder.name]))
    add_lora(model, config)
    save_adapter(model, config, tmp_path / "adapter", str(folder))
    return tmp_path / "adapter"


def change(adapter, tensors=None, **values):
    if tensors:
        save_file(tensors(load_file(adapter / "adapter_model.safetensors")), adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | values))


def first(tensors):
    return sorted(tensors)[0]


BAD = {
    "a layer of another model": (
        lambda t: {**t, "base_model.model.nowhere.lora_A.weight": torch.zeros(2, 3)},
        "nowhere",
    ),
    "a strange tensor": (lambda t: {**t, "strange": torch.zeros(2)}, "strange"),
    "half of a pair": (lambda t: {k: v for k, v in t.items() if k != first(t)}, "does not fit the model"),
    "another shape": (lambda t: {**t, first(t): torch.zeros(2, 5)}, r"\[2, 5\] instead of \[2, (24|40)\]"),
    "not finite": (lambda t: {**t, first(t): t[first(t)] * float("nan")}, "not finite"),
}


@pytest.mark.parametrize("bad", BAD)
def test_tensors_that_do_not_fit_are_named_and_the_model_is_as_before(folder, adapter, bad):
    tensors, message = BAD[bad]
    change(adapter, tensors)
    model = ours(folder)
    before = our_logits(model)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(model, adapter)
    assert not list(adapted(model))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(our_logits(model), before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "IA3"}, "only LoRA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"r": 0}, "rank"),
        ({"lora_dropout": "much"}, "dropout"),
    ],
)
def test_what_is_not_supported_is_refused(folder, adapter, values, message):
    change(adapter, **values)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(ours(folder), adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_damaged_files_are_named(folder, adapter, name, how):
    if how == "missing":
        (adapter / name).unlink()
    else:
        (adapter / name).write_bytes((adapter / name).read_bytes()[:20])
    with pytest.raises(CheckpointError, match=f"holds no {name}" if how == "missing" else "truncated or corrupt"):
        load_adapter(ours(folder), adapter)


def test_an_array_is_no_configuration(folder, adapter):
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="adapter"):
        load_adapter(ours(folder), adapter)


def test_the_merge_command(tmp_path):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    from cutaway.models.huggingface import save_model
    from cutaway.models.llama import Llama, LlamaConfig
    from cutaway.text.tokenizer import Tokenizer

    backend = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    torch.manual_seed(0)
    model = Llama(
        LlamaConfig(
            vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.2,
        )
    ).eval()  # fmt: skip
    save_model(model, Tokenizer(backend), tmp_path / "base")
    config = LoraConfig(rank=2)
    add_lora(model, config)
    for _, module in adapted(model):
        nn.init.normal_(module.lora_B, std=0.2)
    save_adapter(model, config, tmp_path / "adapter")
    args = ["merge", *(str(tmp_path / name) for name in ("base", "adapter", "merged"))]
    result = CliRunner().invoke(app, args, catch_exceptions=False)
    assert result.exit_code == 0
    assert "7 adapted layers (rank 2)" in result.stdout
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(their_logits(merged), our_logits(model), atol=1e-4, rtol=1e-4)
    again = CliRunner().invoke(app, args)
    assert "is there already" in str(again.exception)
