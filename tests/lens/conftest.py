"""A small random model with a tokeniser of bytes."""

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from cutaway.models.families import make_model
from cutaway.models.gpt2 import GPT2, GPT2Config
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.models.load import Loaded
from cutaway.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({char: id for id, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend)


@pytest.fixture(params=["llama", "gpt2", "sliding"])
def model(request) -> torch.nn.Module:
    torch.manual_seed(0)
    if request.param == "gpt2":
        return GPT2(GPT2Config(vocab_size=260, n_positions=64, n_embd=24, n_layer=3, n_head=3)).eval()
    return Llama(
        LlamaConfig(
            vocab_size=260,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            sliding_window=5 if request.param == "sliding" else None,
        )
    ).eval()


_HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2}
_SHAPE = {"vocab_size": 260, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
FAMILIES = {
    "llama": {**_SHAPE, **_HEADS, "initializer_range": 0.2},
    "gpt2": {"vocab_size": 260, "n_embd": 24, "n_layer": 2, "n_head": 3},
    "bert": {**_SHAPE, "num_attention_heads": 3, "head": "masked", "initializer_range": 0.2},
    "roberta": {**_SHAPE, "num_attention_heads": 3, "head": "masked"},
    "mixtral": {**_SHAPE, **_HEADS},
    "qwen3_moe": {**_SHAPE, **_HEADS, "shared_expert_intermediate_size": 12, "mlp_only_layers": (0,)},
    "composed": {**_SHAPE, **_HEADS, "initializer_range": 0.2, "activation": "relu"},
    "t5": {"vocab_size": 260, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 1, "num_heads": 4},
    "transformer": {
        "vocab_size": 260,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "num_attention_heads": 3,
    },
}


@pytest.fixture(params=FAMILIES)
def any_model(request) -> torch.nn.Module:
    """A model of every kind that reads text, with two blocks."""
    torch.manual_seed(0)
    return make_model({"model_type": request.param, **FAMILIES[request.param]}).eval()


@pytest.fixture
def loaded(model, tokenizer, tmp_path) -> Loaded:
    return Loaded(model, tokenizer, "tiny", tmp_path)
