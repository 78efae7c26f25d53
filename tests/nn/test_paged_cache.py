"""The paged cache against the contiguous one, fed with the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.nn.cache import KVCache
from cutaway.nn.paged_cache import PagedCache

P, N = 4, 24


def contiguous(rows, capacity, value_dim=None):
    return KVCache(2, rows, 2, 3, capacity, torch.float32, torch.device("cpu"), value_dim)


def new(rows, T, width):
    return torch.randn(rows, 2, T, width)


@settings(deadline=None)
@given(st.permutations(range(N)), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sampled_from([None, 0, 5]))
def test_scattered_blocks_equal_a_contiguous_cache(order, lengths, value_dim):
    torch.manual_seed(0)
    paged, plain = PagedCache(contiguous(1, N * P, value_dim), P), contiguous(len(lengths), 16, value_dim)
    tables = [order[6 * row :][:6] for row in range(len(lengths))]
    width = 3 if value_dim is None else value_dim
    for row, length in enumerate(lengths):
        if length:
            k, v = new(1, length, 3), new(1, length, width)
            one, same = plain.rows(row, row + 1), paged.rows([tables[row]], [0], length)
            for layer in range(2):
                for ours, expected in zip(same.write(layer, k, v), one.write(layer, k, v), strict=True):
                    assert torch.equal(ours, expected)
            one.advance(length)
    for T in (1, 3):
        rows = paged.rows(tables, plain.lengths.tolist(), T)
        assert rows.longest == plain.longest
        assert torch.equal(rows.positions(T), plain.positions(T))
        mask, expected_mask = rows.mask(T), plain.mask(T)
        assert (mask is None) == (expected_mask is None)
        seen = torch.ones(len(lengths), 1, T, plain.longest + T, dtype=torch.bool) if mask is None else mask
        assert expected_mask is None or torch.equal(mask, expected_mask)
        k, v = new(len(lengths), T, 3), new(len(lengths), T, width)
        for layer in range(2):
            for ours, expected in zip(rows.write(layer, k, v), plain.write(layer, k, v), strict=True):
                visible = seen.any(2)[..., None].expand_as(ours)
                assert torch.equal(ours[visible], expected[visible])
        plain.advance(T)
        rows.advance(T)
        assert torch.equal(rows.lengths, plain.lengths)


@pytest.mark.parametrize(
    ("tables", "lengths", "view"),
    [
        ([[3, 4, 5]], [9], True),
        ([[3, 5, 4]], [9], False),
        ([[0, 1], [4, 5], [8, 9]], [5, 2, 6], True),
        ([[0, 1], [4, 5], [9, 10]], [5, 2, 6], False),  # unequal distances
        ([[8, 9], [4, 5], [0, 1]], [5, 5, 5], False),  # backwards
        ([[0], [1]], [1, 2], True),
        ([[0, 1], [1]], [5, 2], False),  # the masked part of one would be another's
        ([[0, 1, 2], [21, 22, 23], [0, 1, 2]], [9, 9, 9], False),
        ([[0, 1, 2, 3, 4], [22, 23]], [19, 2], False),  # beyond the end of the store
    ],
)
def test_what_lies_in_runs_at_equal_distances_is_a_view(tables, lengths, view):
    store = contiguous(1, N * P)
    rows = PagedCache(store, P).rows(tables, lengths, 1)
    k, _ = rows.write(0, new(len(tables), 1, 3), new(len(tables), 1, 3))
    assert (k.untyped_storage().data_ptr() == store.k_LBGSK.untyped_storage().data_ptr()) == view


def test_blocks_are_copied_and_cleared():
    store = contiguous(1, N * P)
    paged = PagedCache(store, P)
    rows, k = paged.rows([[2, 7]], [0], 6), torch.ones(1, 2, 6, 3)
    for layer in range(2):
        rows.write(layer, k, 2 * k)
    paged.copy(7, 4)
    assert store.v_LBGSK[:, 0, :, 16:20, 0].tolist() == [[[2, 2, 0, 0]] * 2] * 2
    paged.clear([2, 7], 3, 5)
    assert store.k_LBGSK[0, 0, 0, 8:12, 0].tolist() == [1, 1, 1, 0]
    assert store.k_LBGSK[1, 0, 1, 28:32, 0].tolist() == [0, 1, 0, 0]
