"""LoRA against peft, both ways; merged equals unmerged; what does not fit is named."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model

from cutaway.adapt.lora import LoraConfig, adapted, add_lora, fold, merge, remove, unmerge
from cutaway.adapt.peft_files import load_adapter, save_adapter
from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model

SHAPES = {
    "llama": {
        "model_type": "llama",
        "vocab_size": 61,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
    },
    "gpt2": {"model_type": "gpt2", "vocab_size": 61, "n_embd": 48, "n_head": 3, "n_layer": 2, "n_positions": 64},
}
IDS = torch.randint(0, 61, (2, 11), generator=torch.Generator().manual_seed(1))


def fresh(kind):
    torch.manual_seed(0)
    return make_model(SHAPES[kind]).eval()


def randomise(model):
    generator = torch.Generator().manual_seed(5)
    for _, module in adapted(model):
        module.lora_B.data.normal_(0, 0.1, generator=generator)


def logits(model):
    with torch.no_grad():
        return model.logits(model(IDS))


@pytest.mark.parametrize("kind", SHAPES)
def test_peft_loads_what_we_save(kind, tmp_path):
    model = fresh(kind)
    save_model(model, None, tmp_path / "base")
    config = LoraConfig(rank=3, alpha=5)
    add_lora(model, config)
    randomise(model)
    save_adapter(model, config, tmp_path / "adapter")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(logits(model), theirs(IDS).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("stabilised", [False, True])
def test_we_load_what_peft_saves(kind, stabilised, tmp_path):
    model = fresh(kind)
    save_model(model, None, tmp_path / "base")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    targets = ["q_proj", "v_proj"] if kind == "llama" else ["c_attn"]
    settings = PeftConfig(
        r=4, lora_alpha=7, target_modules=targets, use_rslora=stabilised, fan_in_fan_out=kind == "gpt2"
    )
    theirs = get_peft_model(reference, settings)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    load_adapter(model, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(logits(model), theirs.eval()(IDS).logits, atol=1e-4, rtol=0)


def test_a_new_adapter_changes_nothing_and_trains_little():
    model = fresh("llama")
    before = logits(model)
    names = add_lora(model, LoraConfig(rank=2))
    assert "lm_head" not in names
    assert len(names) == 2 * 7
    assert torch.equal(logits(model), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"lora_A", "lora_B"}


def test_an_output_head_is_left_alone_whatever_it_is_made_of():
    shape = {"model_type": "composed", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    model = make_model(
        {**shape, "vocab_size": 64, "head": "adaptive", "adaptive": {"cutoffs": (8, 20), "div_value": 2}}
    )
    assert not [name for name in add_lora(model, LoraConfig()) if name.startswith("lm_head")]
    assert len(list(adapted(model))) == 7


def test_merged_equals_unmerged_and_unmerge_is_exact():
    model = fresh("llama")
    plain = {name: parameter.clone() for name, parameter in model.named_parameters()}
    add_lora(model, LoraConfig(rank=2))
    randomise(model)
    apart = logits(model)
    merge(model)
    torch.testing.assert_close(logits(model), apart, atol=1e-5, rtol=0)
    unmerge(model)
    assert torch.equal(logits(model), apart)
    remove(model)
    assert all(torch.equal(parameter, plain[name]) for name, parameter in model.named_parameters())


def test_folded_is_an_ordinary_model():
    model = fresh("gpt2")
    names = {name for name, _ in model.named_parameters()}
    add_lora(model, LoraConfig(rank=2))
    randomise(model)
    apart = logits(model)
    fold(model)
    assert {name for name, _ in model.named_parameters()} == names
    torch.testing.assert_close(logits(model), apart, atol=1e-5, rtol=0)


def test_mistakes_are_named(tmp_path):
    model = fresh("llama")
    with pytest.raises(ConfigError, match="did you mean q_proj"):
        add_lora(model, LoraConfig(targets=("q_porj",)))
    add_lora(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="already"):
        add_lora(model, LoraConfig())
    with pytest.raises(CheckpointError, match="adapter_config"):
        load_adapter(model, tmp_path)


def test_an_adapter_of_another_model_leaves_the_model_alone(tmp_path):
    other, model = fresh("gpt2"), fresh("llama")
    add_lora(other, LoraConfig(rank=2))
    save_adapter(other, LoraConfig(rank=2), tmp_path / "a")
    before = logits(model)
    with pytest.raises(CheckpointError, match=r"transformer\.h\.0"):
        load_adapter(model, tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError, match="corrupt"):
        load_adapter(model, tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    assert torch.equal(logits(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
