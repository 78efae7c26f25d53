"""LoRA by module surgery."""

import pytest
import torch
from torch import nn

from cutaway.adapt.lora import LoraConfig, adapted, add_lora, fold, merge, remove, unmerge
from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.models.llama import Llama, LlamaConfig


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    return Llama(config).eval()


def logits(model):
    with torch.no_grad():
        return model.logits(model(torch.arange(20).reshape(2, 10)))


def randomise(model):
    torch.manual_seed(1)
    for _, module in adapted(model):
        nn.init.normal_(module.lora_B, std=0.3)


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(model):
    before = logits(model)
    names = add_lora(model, LoraConfig(rank=3))
    assert torch.equal(logits(model), before)
    assert len(names) == 2 * 7
    assert not any("lm_head" in name for name in names)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith(("lora_A", "lora_B")) for name in trained)
    layer = 3 * (24 + 24 + 2 * (24 + 8) + 24 + 24 + 3 * (24 + 40))
    assert sum(trained.values()) == 2 * layer


def test_targets_by_the_end_of_their_names(model):
    names = add_lora(model, LoraConfig(targets=("q_proj", "layers.1.mlp.down_proj")))
    ends = ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.1.mlp.down_proj"]
    assert [name.removeprefix("model.") for name in names] == ends


@pytest.mark.parametrize("stabilised", [False, True])
def test_the_formula(stabilised):
    layer = nn.Sequential(nn.Linear(5, 4))
    config = LoraConfig(rank=4, alpha=6, rank_stabilised=stabilised)
    add_lora(layer, config)
    randomise(layer)
    x = torch.randn(3, 5)
    module = layer[0]
    expected = module.base(x) + x @ module.lora_A.T @ module.lora_B.T * (3.0 if stabilised else 1.5)
    torch.testing.assert_close(layer(x), expected)


def test_merged_equals_unmerged_and_everything_is_undone_exactly(model):
    weights = {name: p.clone() for name, p in model.named_parameters()}
    before = logits(model)
    add_lora(model, LoraConfig(rank=2))
    randomise(model)
    beside = logits(model)
    assert (beside - before).abs().max() > 0.01
    merge(model)
    merge(model)  # once more changes nothing
    torch.testing.assert_close(logits(model), beside, atol=1e-4, rtol=1e-4)
    unmerge(model)
    assert torch.equal(logits(model), beside)
    remove(model)
    assert torch.equal(logits(model), before)
    assert {name: p.shape for name, p in model.named_parameters()} == {n: p.shape for n, p in weights.items()}
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_folding_leaves_an_ordinary_model(model):
    names = [name for name, _ in model.named_modules()]
    add_lora(model, LoraConfig())
    randomise(model)
    beside = logits(model)
    fold(model)
    assert [name for name, _ in model.named_modules()] == names
    torch.testing.assert_close(logits(model), beside, atol=1e-4, rtol=1e-4)


def test_only_adapters_get_gradients_and_dropout_is_for_training(model):
    add_lora(model, LoraConfig(dropout=0.5))
    randomise(model)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))
    model.logits(model(torch.arange(10)[None])).sum().backward()
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.grad is not None} == {
        "lora_A",
        "lora_B",
    }


def test_bad_settings_are_named(model):
    with pytest.raises(ConfigError, match=r"lora\.targets='q_porj'.*did you mean q_proj"):
        add_lora(model, LoraConfig(targets=("q_porj",)))
    assert not list(adapted(model))
    with pytest.raises(ConfigError, match="rank"):
        make_config(LoraConfig, {"rank": 0})
    with pytest.raises(ConfigError, match="dropout"):
        make_config(LoraConfig, {"dropout": 1.0})
    add_lora(model, LoraConfig())
    with pytest.raises(ConfigError, match="already"):
        add_lora(model, LoraConfig())


def test_a_tied_head_is_refused(model):
    with pytest.raises(ConfigError, match="shares its weight"):
        add_lora(model, LoraConfig(targets=("lm_head",)))
