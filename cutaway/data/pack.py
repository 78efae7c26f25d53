"""Packing: which pieces share a row. Attention never crosses from one to another; this is only about not computing padding."""

import bisect
from collections.abc import Sequence

import numpy as np
import torch

from cutaway.data.batch import Batch
from cutaway.loss.language_modelling import IGNORED

_WINDOW = 1024  # pieces looked at together, so that the order stays random at a larger scale


def pack(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    """Put pieces into rows of `seq_len` positions, best fit, longest first within windows of 1,024 pieces.

    Returns:
        Rows of indices into `lengths`; every piece is in exactly one, and no row is over-full.
    """
    rows: list[list[int]] = []
    for start in range(0, len(lengths), _WINDOW):
        window = range(start, min(start + _WINDOW, len(lengths)))
        free: list[tuple[int, int]] = []  # (free positions, row), sorted
        for index in sorted(window, key=lambda i: (-lengths[i], i)):
            assert lengths[index] <= seq_len, f"a piece of {lengths[index]} positions in a row of {seq_len}"
            place = bisect.bisect_left(free, (lengths[index], -1))
            if place == len(free):
                rows.append([])
                room, row = seq_len, len(rows) - 1
            else:
                room, row = free.pop(place)
            rows[row].append(index)
            bisect.insort(free, (room - int(lengths[index]), row))
    return rows


def collate(rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], width: int, pad_id: int) -> Batch:
    """Rows of pieces (ids, learned) as one batch of `width` positions."""
    shape = (len(rows), width)
    ids, targets = np.full(shape, pad_id, np.int64), np.full(shape, IGNORED, np.int64)
    positions, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for r, pieces in enumerate(rows):
        at = 0
        for number, (piece, learned) in enumerate(pieces, 1):
            stop = at + len(piece) - 1
            ids[r, at:stop] = piece[:-1]
            targets[r, at:stop] = np.where(learned[1:], piece[1:], IGNORED)
            positions[r, at:stop] = np.arange(stop - at)
            segments[r, at:stop] = number
            at = stop
    return Batch(*(torch.from_numpy(array) for array in (ids, targets, positions, segments)))
