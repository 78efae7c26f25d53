"""Logits of ours and of transformers' on the same weights, over shapes that are easy to get wrong."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from cutaway.models.huggingface import save_model

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


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_and_come_back_equal(case, both, tmp_path):
    ours, theirs = both(*CASES[case])
    ids = torch.randint(97, (2, 23))
    expected = theirs(ids).logits
    torch.testing.assert_close(ours.logits(ours(ids)), expected, atol=1e-4, rtol=1e-4)

    save_model(ours, None, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(ids).logits, expected, atol=1e-5, rtol=1e-5)


# Dynamic scaling turns earlier keys by the frequencies of a shorter length, in transformers too: no equality to expect.
@pytest.mark.parametrize("case", [case for case in CASES if "dynamic" not in case])
@torch.no_grad()
def test_cached_equals_uncached(case, both):
    ours, _ = both(*CASES[case])
    ids = torch.randint(97, (3, 14))
    whole = ours.logits(ours(ids))
    cache = ours.new_cache(3, 14)
    pieces = [ours.logits(ours(part, cache=cache)) for part in ids.split([5, 1, 1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "mistral, window", "gpt2"])
@torch.no_grad()
def test_rows_of_different_lengths_decode_like_single_rows(case, both):
    ours, _ = both(*CASES[case])
    prompts = [torch.randint(97, (1, n)) for n in (9, 3, 6)]
    cache = ours.new_cache(4, 16)
    for row, prompt in enumerate(prompts):
        ours(prompt, cache=cache.rows(row, row + 1))
    new = torch.randint(97, (3, 4))
    together = torch.cat([ours(step, cache=cache.rows(0, 3)) for step in new.split(1, dim=1)], dim=1)
    for row, prompt in enumerate(prompts):
        alone = ours(torch.cat((prompt, new[row : row + 1]), dim=1))[:, -4:]
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "qwen2, tied", "gpt2"])
@torch.no_grad()
def test_packed_equals_unpacked(case, both):
    from cutaway.nn.masks import segment_mask

    ours, _ = both(*CASES[case])
    documents = [torch.randint(97, (1, n)) for n in (7, 4, 9)]
    segments = torch.tensor([[1] * 7 + [2] * 4 + [3] * 9 + [0] * 2])
    positions = torch.tensor([[*range(7), *range(4), *range(9), 0, 0]])
    ids = torch.cat([*documents, torch.zeros(1, 2, dtype=torch.int64)], dim=1)
    packed = ours(ids, positions_BT=positions, mask_BTS=segment_mask(segments))
    for document, part in zip(documents, packed[:, :20].split([7, 4, 9], dim=1), strict=True):
        torch.testing.assert_close(part, ours(document), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_padded_batch_equals_transformers(case, both):
    """Padding on the left, as generation batches it there."""
    ours, theirs = both(*CASES[case])
    ids = torch.randint(97, (2, 8))
    real = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8], dtype=torch.bool)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    expected = theirs(ids, attention_mask=real.long(), position_ids=positions).logits
    mask = torch.ones(8, 8, dtype=torch.bool).tril()[None] & real[:, None]
    found = ours.logits(ours(ids, positions_BT=positions, mask_BTS=mask))
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_backends_agree(case, both):
    ours, _ = both(*CASES[case])
    ids = torch.randint(97, (2, 21))
    expected = ours(ids)
    for backend in ("reference", "tiled"):
        for module in ours.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        torch.testing.assert_close(ours(ids), expected, atol=1e-5, rtol=1e-5)
