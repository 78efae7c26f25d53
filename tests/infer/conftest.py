"""A small random model with a tokeniser of its own, and the same model in transformers."""

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM

from cutaway.models.llama import Llama, LlamaConfig
from cutaway.models.load import Loaded
from cutaway.text.tokenizer import Tokenizer

TEXT = ["the quick brown fox jumps over the lazy dog", "one two three four five six seven eight", "你好，世界 🙂"] * 4


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return Tokenizer(backend, eos="<|endoftext|>")


@pytest.fixture(scope="session")
def theirs() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = TheirConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=96,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def loaded(theirs, tokenizer, tmp_path_factory) -> Loaded:
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=96,
        rms_norm_eps=theirs.config.rms_norm_eps,
        tie_word_embeddings=False,
    )
    model = Llama(config).eval()
    model.load_state_dict(theirs.state_dict())
    return Loaded(model, tokenizer, "tiny", tmp_path_factory.mktemp("tiny"))
