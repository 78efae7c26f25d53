import psutil
import pytest
import torch

from cutaway.nn.cache import KVCache


def cache(batch=3, capacity=8, dtype=torch.float32):
    return KVCache(2, batch, 2, 4, capacity, dtype, torch.device("cpu"))


def fill(target, T, value):
    new = torch.full((target.lengths.numel(), 2, T, 4), float(value))
    out = [target.write(layer, new, -new) for layer in range(2)]
    target.advance(T)
    return out


def test_positions_and_masks():
    kept = cache()
    assert kept.mask(3) is None, "rows of one length need no mask"
    fill(kept.rows(1, 2), 2, 7)
    assert kept.lengths.tolist() == [0, 2, 0]
    assert kept.positions(2).tolist() == [[0, 1], [2, 3], [0, 1]]
    mask = kept.mask(1)
    assert mask.shape == (3, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, False, False], [True, True, True], [True, False, False]]


def test_what_is_written_through_a_view_is_written_here():
    kept = cache()
    (k, v), _ = fill(kept.rows(1, 3), 2, 5)
    assert k.shape == (2, 2, 2, 4)
    assert (v == -5).all()
    assert (kept.k_LBGSK[:, 1:, :, :2] == 5).all()
    assert (kept.k_LBGSK[:, 0] == 0).all()
    assert k.untyped_storage().data_ptr() == kept.k_LBGSK.untyped_storage().data_ptr(), "no copy"


def test_uneven_rows_write_after_their_own_length():
    kept = cache(batch=2)
    fill(kept.rows(0, 1), 3, 1)
    fill(kept, 2, 9)
    assert kept.k_LBGSK[0, 0, 0, :, 0].tolist() == [1, 1, 1, 9, 9, 0, 0, 0]
    assert kept.k_LBGSK[0, 1, 0, :, 0].tolist() == [9, 9, 0, 0, 0, 0, 0, 0]
    assert kept.lengths.tolist() == [5, 2]


def test_move_and_select():
    kept = cache()
    for row in range(3):
        fill(kept.rows(row, row + 1), row + 1, 10 * (row + 1))
    kept.move(2, 0)
    assert kept.lengths.tolist() == [3, 2, 3]
    assert (kept.v_LBGSK[:, 0, :, :3] == -30).all()
    kept.select([1, 1, 0])
    assert kept.lengths.tolist() == [2, 2, 3]
    assert (kept.k_LBGSK[:, :2, :, :2] == 20).all()
    assert (kept.k_LBGSK[:, 2, :, :3] == 30).all()


def test_overflow_is_caught():
    with pytest.raises(AssertionError, match=r"9 positions in a cache of 8|8 . 1 positions"):
        kept = cache()
        fill(kept, 8, 1)
        fill(kept, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_size(dtype):
    kept = cache(dtype=dtype)
    assert kept.nbytes == 2 * 2 * 3 * 2 * 8 * 4 * dtype.itemsize
    assert kept.k_LBGSK.dtype == dtype


def test_memory_is_taken_only_where_it_is_written():
    """512 rows of keys lie far apart; each takes a page, not a megabyte."""
    before = psutil.Process().memory_info().rss
    cache = KVCache(8, 64, 1, 64, 8192, torch.bfloat16, torch.device("cpu"))
    for layer in range(8):
        cache.write(layer, torch.ones(64, 1, 1, 64), torch.ones(64, 1, 1, 64))
    assert cache.nbytes == 2**30
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
