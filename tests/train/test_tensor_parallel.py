"""What cannot be split is refused by name before anything is; that splitting changes no number is in `test_distributed`."""

from types import SimpleNamespace

import pytest
from torch import nn

from cutaway.adapt.lora import LoraConfig, add_lora
from cutaway.core.errors import ConfigError
from cutaway.models.families import make_model
from cutaway.train.tensor_parallel import check_blocks

SMALL = {"vocab_size": 31, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2}  # fmt: skip
BERT = {"model_type": "bert", "vocab_size": 31, "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1}
T5 = {"model_type": "t5", "vocab_size": 31, "d_model": 24, "d_ff": 32, "d_kv": 6, "num_layers": 1, "num_heads": 4}


@pytest.mark.parametrize(
    ("shape", "n", "says"),
    [
        ({**SMALL, "model_type": "llama"}, 4, "does not divide the 2 key-value heads"),
        ({**SMALL, "model_type": "llama"}, 3, "does not divide the 4 query heads"),
        ({**SMALL, "model_type": "llama", "intermediate_size": 33}, 2, "does not divide the 33 outputs of gate_proj"),
        ({**SMALL, "model_type": "composed", "attention": "latent"}, 2, "is of a kind that cannot be split"),
        ({**BERT, "intermediate_size": 32}, 3, "does not divide the 4 query heads"),
        ({**BERT, "intermediate_size": 33}, 2, "does not divide the 33 outputs of intermediate.dense"),
        ({**T5, "num_heads": 3}, 2, "does not divide the 3 query heads"),
        ({**T5, "d_ff": 33}, 2, "does not divide the 33 outputs of wi"),
    ],
)
def test_what_does_not_divide_is_named(shape, n, says):
    with pytest.raises(ConfigError, match=rf"loop\.parallel\.tensor={n}: .*{says}"):
        check_blocks(make_model(shape), n)


def test_what_can_be_split_passes():
    check_blocks(make_model({**SMALL, "model_type": "qwen3_moe"}), 2)


def test_adapters_are_not_split():
    model = make_model({**SMALL, "model_type": "llama"})
    add_lora(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="cannot be split"):
        check_blocks(model, 2)


def test_a_layer_of_another_family_is_not_split():
    with pytest.raises(ConfigError, match="cannot be split"):
        check_blocks(SimpleNamespace(blocks=[nn.TransformerEncoderLayer(8, 2)]), 2)
