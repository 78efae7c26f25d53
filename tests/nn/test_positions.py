"""Each kind of position by what defines it, and against an independent formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from cutaway.nn.attention import attention_weights
from cutaway.nn.positions import RelativeBias, alibi_bias, alibi_slopes, relative_buckets, sinusoidal
from cutaway.nn.rope import RopeScaling, rope_frequencies

HEADS = [1, 2, 3, 5, 8, 12, 16, 20]


@pytest.mark.parametrize("D", [2, 6, 7, 64])
def test_sinusoids_are_the_paper_s(D):
    table_TD = sinusoidal(torch.arange(50), D)
    assert table_TD.shape == (50, D)
    for i in range((D + 1) // 2):
        angle = torch.arange(50, dtype=torch.float64) / 10_000 ** (2 * i / D)
        torch.testing.assert_close(table_TD[:, 2 * i].double(), angle.sin(), atol=1e-5, rtol=0)
        if 2 * i + 1 < D:
            torch.testing.assert_close(table_TD[:, 2 * i + 1].double(), angle.cos(), atol=1e-5, rtol=0)


def test_sinusoids_move_by_one_rotation():
    """The product of two encodings depends on their distance alone."""
    table_TD = sinusoidal(torch.arange(40), 32)
    products_TT = table_TD @ table_TD.T
    for distance in range(40):
        diagonal = products_TT.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)


def test_sinusoids_of_any_positions():
    positions_BT = torch.tensor([[0, 3], [7, 7]])
    torch.testing.assert_close(sinusoidal(positions_BT, 8), sinusoidal(torch.arange(8), 8)[positions_BT])


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (10, 33), (4, 3)])
def test_buckets_equal_transformers(buckets, max_distance, two_sided):
    offsets = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(offsets, two_sided, buckets, max_distance)
    assert relative_buckets(offsets, buckets, max_distance, two_sided).equal(expected)


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(1, 100), st.booleans())
def test_buckets_widen_with_distance(half, further, two_sided):
    buckets, max_distance = 2 * half, 2 * half + further
    behind = relative_buckets(-torch.arange(400), buckets, max_distance, two_sided)
    steps = behind.diff()
    share = half if two_sided else buckets
    exact = share // 2
    assert behind[: exact + 1].tolist() == list(range(exact + 1)), "near offsets have a bucket each"
    assert (steps >= 0).all()
    assert (behind[max_distance:] == share - 1).all(), "all far ones share the last"
    ahead = relative_buckets(torch.arange(1, 400), buckets, max_distance, two_sided)
    assert ahead.equal(behind[1:] + half if two_sided else torch.zeros_like(ahead))


def test_relative_bias_depends_on_the_offset_alone():
    bias = RelativeBias(buckets=8, max_distance=20, two_sided=True, H=3)
    keys = torch.arange(30)
    whole = bias(keys[None], keys)
    assert whole.shape == (1, 3, 30, 30)
    torch.testing.assert_close(whole[..., :-1, :-1], whole[..., 1:, 1:])
    torch.testing.assert_close(bias(torch.tensor([[4], [9]]), keys), whole[0, :, [4, 9]].transpose(0, 1)[:, :, None])
    assert whole[0, 1, 5, 6] == bias.weight[5, 1], "one ahead: the second bucket of the upper half"


@pytest.mark.parametrize("H", HEADS)
def test_alibi_is_bloom_s(H):
    """BLOOM adds slope · key position, which differs by a constant per query; under the softmax both are one."""
    torch.manual_seed(H)
    q, k = torch.randn(1, H, 9, 4), torch.randn(1, H, 9, 4)
    theirs = build_alibi_tensor(torch.ones(1, 9, dtype=torch.int64), H, torch.float32).view(1, H, 1, 9)
    ours = alibi_bias(alibi_slopes(H), torch.arange(9)[None], torch.arange(9))
    torch.testing.assert_close(
        attention_weights(q, k, None, 0.5, bias=ours), attention_weights(q, k, None, 0.5, bias=theirs)
    )


def test_alibi_by_hand():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)], "the paper's example"
    assert alibi_slopes(3).tolist() == [2.0**-4, 2.0**-8, 2.0**-2]
    bias = alibi_bias(alibi_slopes(2), torch.tensor([[2], [0]]), torch.arange(4))
    assert bias.shape == (2, 2, 1, 4)
    assert (-bias[0, 0, 0] * 2**4).tolist() == [2, 1, 0, 1]
    assert (-bias[1, 1, 0] * 2**8).tolist() == [0, 1, 2, 3]


def test_a_head_of_one_pair_turns_by_one_at_any_length():
    scaling = RopeScaling(rope_type="dynamic", factor=4.0, original_max_position_embeddings=16)
    frequencies, _ = rope_frequencies(2, 10_000.0, scaling, context=64, length=64)
    assert frequencies.tolist() == [1.0]
