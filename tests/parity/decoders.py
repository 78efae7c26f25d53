"""Decoders: shapes that are easy to get wrong, against transformers."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.models.load import Loaded
from cutaway.text.tokenizer import Tokenizer
from tests.parity.sides import Kind, Outputs, Texts, read_again, same_weights, up_to_end

END = 2
SMALL = dict(vocab_size=97, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=6)
SCALINGS = {
    "linear": dict(rope_type="linear", factor=2.5),
    "dynamic": dict(rope_type="dynamic", factor=3.0),
    "llama3": dict(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    ),
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16),
    "yarn with mscale": dict(
        rope_type="yarn",
        factor=4.0,
        original_max_position_embeddings=16,
        mscale=0.7,
        mscale_all_dim=0.4,
        beta_fast=20.0,
        beta_slow=2.0,
    ),
}


def llama(**over):
    return "LlamaForCausalLM", LlamaConfig(**{**SMALL, "num_key_value_heads": 3, **over})


def mistral(**over):
    return "MistralForCausalLM", MistralConfig(**{**SMALL, "num_key_value_heads": 2, "sliding_window": None, **over})


def qwen2(**over):
    return "Qwen2ForCausalLM", Qwen2Config(**{**SMALL, "num_key_value_heads": 1, **over})


def qwen3(**over):
    return "Qwen3ForCausalLM", Qwen3Config(**{**SMALL, "num_key_value_heads": 2, "head_dim": 10, **over})


def mixtral(**over):
    shape = dict(num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2, sliding_window=None)
    return "MixtralForCausalLM", MixtralConfig(**{**SMALL, **shape, **over})


def qwen2_moe(**over):
    shape = dict(num_key_value_heads=3, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=20)
    return "Qwen2MoeForCausalLM", Qwen2MoeConfig(**{**SMALL, **shape, "shared_expert_intermediate_size": 28, **over})


def qwen3_moe(**over):
    shape = dict(num_key_value_heads=3, head_dim=12, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=20)
    return "Qwen3MoeForCausalLM", Qwen3MoeConfig(**{**SMALL, **shape, **over})


def gpt2(**over):
    shape = dict(vocab_size=101, n_positions=64, n_embd=60, n_layer=2, n_head=5, n_inner=70, attn_pdrop=0.0)
    return "GPT2LMHeadModel", GPT2Config(**{**shape, "embd_pdrop": 0.0, "resid_pdrop": 0.0, **over})


CASES = {
    "llama": llama(),
    "llama, one head": llama(num_attention_heads=1, num_key_value_heads=1),
    "llama, no groups": llama(num_key_value_heads=6),
    "llama, tied": llama(tie_word_embeddings=True),
    "llama, biases": llama(attention_bias=True, mlp_bias=True),
    "llama, head_dim": llama(head_dim=10),
    "llama, theta and eps": llama(rope_parameters=dict(rope_type="default", rope_theta=500_000.0), rms_norm_eps=1e-3),
    **{
        f"llama, {name}": llama(max_position_embeddings=16, rope_parameters={**scaling, "rope_theta": 10_000.0})
        for name, scaling in SCALINGS.items()
    },
    "mistral": mistral(),
    "mistral, window": mistral(sliding_window=5),
    "mistral, head_dim": mistral(head_dim=4),
    "qwen2": qwen2(),
    "qwen2, tied": qwen2(tie_word_embeddings=True),
    "qwen2, window": qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=0),
    "qwen3": qwen3(),
    "qwen3, tied, biases": qwen3(tie_word_embeddings=True, attention_bias=True),
    "qwen3, window": qwen3(use_sliding_window=True, sliding_window=6, max_window_layers=0),
    "mixtral": mixtral(),
    "mixtral, window": mixtral(sliding_window=4),
    "mixtral, one expert": mixtral(num_local_experts=1, num_experts_per_tok=1),
    "mixtral, all experts": mixtral(num_experts_per_tok=5),
    "qwen2_moe": qwen2_moe(),
    "qwen2_moe, every other layer": qwen2_moe(num_hidden_layers=3, decoder_sparse_step=2, norm_topk_prob=True),
    "qwen2_moe, no bias": qwen2_moe(qkv_bias=False, mlp_only_layers=[0]),
    "qwen3_moe": qwen3_moe(),
    "qwen3_moe, normalised": qwen3_moe(num_experts_per_tok=3, norm_topk_prob=True),
    "gpt2": gpt2(),
    "gpt2, untied": gpt2(tie_word_embeddings=False),
    "gpt2, default inner": gpt2(n_inner=None),
}


def inputs(theirs: Any) -> Tensor:
    return torch.randint(97, (2, 23))


def ours(model: Any, ids: Tensor) -> Outputs:
    return {"logits": model.logits(model(ids))}


def theirs(model: Any, ids: Tensor) -> Outputs:
    return {"logits": model(ids).logits}


def write(ours: Any, theirs: Any, ids: Tensor) -> tuple[Texts, Texts]:
    """The engine with all prompts at once, three rows of them running; transformers one prompt after the other."""
    prompts = [ids[0, :9].tolist(), ids[1, :3].tolist(), ids[0, 14:].tolist(), ids[1, 5:6].tolist()]
    context = min(ours.context, 29)
    loaded = Loaded(ours, numbers(theirs.config.vocab_size), "parity", Path())
    engine = Engine(loaded, EngineConfig(max_batch=3, context=context))
    found = engine.generate(prompts, GREEDY, context - 9)
    expected = []
    for prompt in prompts:
        row = torch.tensor([prompt])
        asked = dict(max_new_tokens=context - 9, do_sample=False, eos_token_id=END, pad_token_id=0)
        written = theirs.generate(row, attention_mask=torch.ones_like(row), **asked)
        expected.append(up_to_end(written[0, len(prompt) :].tolist(), END))
    return [completion.ids for completion in found], expected


def numbers(size: int) -> Tokenizer:
    """A tokeniser whose words are the numbers below `size`; the engine asks it which token ends a text."""
    words = {str(id): id for id in range(size)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="0"))
    return Tokenizer(backend, eos=str(END))


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again, write)
