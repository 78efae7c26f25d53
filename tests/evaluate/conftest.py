"""A tiny model with a byte-level tokeniser that adds BOS and has a chat template."""

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from cutaway.models.llama import Llama, LlamaConfig
from cutaway.models.load import Loaded
from cutaway.text.tokenizer import Tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ["<s>", "</s>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"]


@pytest.fixture
def loaded(tmp_path):
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["the quick brown fox jumps over the lazy dog"],
        trainers.BpeTrainer(
            vocab_size=290,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = Tokenizer(backend, bos="<s>", eos="</s>", chat_template=TEMPLATE, adds_bos=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.15,
    )
    return Loaded(Llama(config).eval(), tokenizer, "tiny", tmp_path)
