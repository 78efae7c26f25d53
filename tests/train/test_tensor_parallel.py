"""What cannot be split is refused by name before anything is; that splitting changes no number is in `test_distributed`."""

import pytest
from torch import nn

from cutaway.adapt.lora import LoraConfig, add_lora
from cutaway.core.errors import ConfigError
from cutaway.models.families import make_model
from cutaway.train.tensor_parallel import check_block

SMALL = {"vocab_size": 31, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "n", "says"),
    [
        ({"model_type": "llama"}, 4, "does not divide the 2 key-value heads"),
        ({"model_type": "llama"}, 3, "does not divide the 4 query heads"),
        ({"model_type": "llama", "intermediate_size": 33}, 2, "does not divide the 33 outputs of gate_proj"),
        ({"model_type": "composed", "attention": "latent"}, 2, "is of a kind that cannot be split"),
    ],
)
def test_what_does_not_divide_is_named(shape, n, says):
    (block,) = make_model({**SMALL, **shape}).blocks
    with pytest.raises(ConfigError, match=rf"loop\.parallel\.tensor={n}: .*{says}"):
        check_block(block, n)


@pytest.mark.parametrize("kind", ["llama", "mixtral", "qwen3_moe", "composed"])
def test_what_can_be_split_passes(kind):
    for block in make_model({**SMALL, "model_type": kind}).blocks:
        check_block(block, 2)


def test_adapters_are_not_split():
    model = make_model({**SMALL, "model_type": "llama"})
    add_lora(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="cannot be split"):
        check_block(model.blocks[0], 2)


def test_a_layer_of_another_family_is_not_split():
    with pytest.raises(ConfigError, match="cannot be split"):
        check_block(nn.TransformerEncoderLayer(8, 2), 2)
