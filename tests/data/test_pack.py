"""Packing loses nothing and mixes nothing."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.data.pack import collate, pack


@given(st.lists(st.integers(1, 16), max_size=60))
@settings(deadline=None)
def test_every_piece_in_one_row_that_holds_it(lengths):
    rows = pack(lengths, 16)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in row) <= 16 for row in rows)
    # best fit leaves at most one row half empty or less
    assert sum(sum(lengths[i] for i in row) <= 8 for row in rows) <= 1


def test_batches_over_several_windows():
    lengths = np.random.default_rng(0).integers(1, 9, 3000).tolist()
    rows = pack(lengths, 8)
    assert sorted(i for row in rows for i in row) == list(range(3000))
    assert sum(lengths) / (8 * len(rows)) > 0.97


def test_a_batch_by_hand():
    first = (np.array([1, 2, 3]), np.array([True, False, True]))
    second = (np.array([4, 5]), np.array([False, True]))
    batch = collate([[first, second], [second]], 5, pad_id=9)
    assert batch.ids_BT.tolist() == [[1, 2, 4, 9, 9], [4, 9, 9, 9, 9]]
    assert batch.targets_BT.tolist() == [[-100, 3, 5, -100, -100], [5, -100, -100, -100, -100]]
    assert batch.positions_BT.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert batch.segments_BT.tolist() == [[1, 1, 2, 0, 0], [1, 0, 0, 0, 0]]
    assert batch.n_targets == 3
    assert batch.rows(1, 2).ids_BT.tolist() == [[4, 9, 9, 9, 9]]
    assert {getattr(batch, name).dtype for name in ("ids_BT", "targets_BT", "positions_BT", "segments_BT")} == {
        torch.int64
    }
