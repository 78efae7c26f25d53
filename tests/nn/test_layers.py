"""Masks, rotary positions, norm and feed-forward, from their definitions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.nn.feedforward import GatedFeedForward
from cutaway.nn.masks import causal_mask, padding_mask, segment_mask, sliding_window
from cutaway.nn.norm import RMSNorm
from cutaway.nn.rope import RopeScaling, apply_rope, rope_frequencies, rope_tables

CPU = torch.device("cpu")


def test_causal_mask_with_offset():
    assert causal_mask(2, 4, CPU).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_segments_do_not_see_each_other():
    mask = segment_mask(torch.tensor([[1, 1, 2, 0]]))[0, 0].int().tolist()
    assert mask == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_padding_and_window():
    assert padding_mask(torch.tensor([2, 0]), 3)[:, 0, 0].int().tolist() == [[1, 1, 0], [0, 0, 0]]
    narrowed = sliding_window(causal_mask(3, 4, CPU), 2)
    assert narrowed.int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000))
def test_rotated_dot_product_depends_on_the_distance_alone(a, b, shift):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    frequencies, factor = rope_frequencies(16, 10_000.0, RopeScaling(), 2048)

    def score(at_q, at_k):
        tables = [rope_tables(torch.tensor([[at]]), frequencies.double(), factor, torch.float64) for at in (at_q, at_k)]
        return (apply_rope(q, *tables[0]) * apply_rope(k, *tables[1])).sum()

    torch.testing.assert_close(score(a, b), score(a + shift, b + shift), atol=2e-3, rtol=0)


def test_rotation_keeps_the_norm():
    x = torch.randn(2, 3, 5, 8)
    tables = rope_tables(torch.arange(5)[None], *rope_frequencies(8, 10_000.0, RopeScaling(), 64), torch.float32)
    torch.testing.assert_close(apply_rope(x, *tables).norm(dim=-1), x.norm(dim=-1))


def test_scaling_leaves_fast_pairs_and_slows_slow_ones():
    plain, _ = rope_frequencies(32, 10_000.0, RopeScaling(), 64)
    for kind in ("llama3", "yarn"):
        scaling = RopeScaling(rope_type=kind, factor=8.0, original_max_position_embeddings=64)
        scaled, factor = rope_frequencies(32, 10_000.0, scaling, 512)
        assert scaled[0] == plain[0]
        assert torch.isclose(scaled[-1], plain[-1] / 8)
        assert (factor > 1) == (kind == "yarn")


def test_rms_norm_and_swiglu_are_their_formulas():
    x = torch.randn(3, 6)
    norm = RMSNorm(6, 1e-3)
    torch.nn.init.normal_(norm.weight)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    layer = GatedFeedForward(6, 10)
    gate = layer.gate_proj(x)
    torch.testing.assert_close(layer(x), layer.down_proj(gate * torch.sigmoid(gate) * layer.up_proj(x)))
