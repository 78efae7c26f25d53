"""The key-value cache: one contiguous slot per row.

L layers, B rows, G key-value heads, S positions, K head width. A row belongs to one sequence and has its own length; rows in use
stand next to each other, so that a batch is a view and nothing is copied per step.
"""

import math
import mmap
from contextlib import suppress
from typing import Self

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer.

    Args:
        n_layers, batch, n_kv_heads, head_dim: L, B, G, K.
        capacity: S, the most positions a row can hold.
        value_dim: K of the values, where it is another one than that of the keys.
    """

    def __init__(
        self,
        n_layers: int,
        batch: int,
        n_kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
        value_dim: int | None = None,
    ):
        shape = (n_layers, batch, n_kv_heads, capacity)
        self.k_LBGSK = lazy_zeros((*shape, head_dim), dtype, device)
        self.v_LBGSK = lazy_zeros((*shape, head_dim if value_dim is None else value_dim), dtype, device)
        self.lengths = torch.zeros(batch, dtype=torch.int64)  # on the CPU: the loop reads it at every step

    @property
    def capacity(self) -> int:
        return self.k_LBGSK.shape[3]

    @property
    def longest(self) -> int:
        """The most positions that a row holds."""
        return int(self.lengths.max())

    @property
    def _even(self) -> bool:
        return bool((self.lengths == self.lengths[0]).all())

    @property
    def nbytes(self) -> int:
        return self.k_LBGSK.nbytes + self.v_LBGSK.nbytes

    def rows(self, start: int, stop: int) -> Self:
        """A view of some rows: what is written through it is written here."""
        view = object.__new__(type(self))
        view.k_LBGSK, view.v_LBGSK = self.k_LBGSK[:, start:stop], self.v_LBGSK[:, start:stop]
        view.lengths = self.lengths[start:stop]
        return view

    def positions(self, T: int) -> Tensor:
        """B × T: where the next T tokens of each row stand."""
        return (self.lengths[:, None] + torch.arange(T)).to(self.k_LBGSK.device)

    def mask(self, T: int) -> Tensor | None:
        """Which keys the next T tokens of each row see, B × 1 × T × S; None when plain causality says it."""
        longest = self.longest
        if self._even:
            return None
        keys = torch.arange(longest + T, device=self.k_LBGSK.device)
        return (keys[None, None] <= self.positions(T)[:, :, None])[:, None]

    def write(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Put the keys and values of the next T tokens of each row after what it holds; return all up to the longest row.

        `lengths` stays as it is until `advance`, so that every layer of one forward pass writes to the same place.
        """
        T, longest = k_BGTK.shape[2], self.longest
        assert longest + T <= self.capacity, f"{longest} + {T} positions in a cache of {self.capacity}"
        k_BGSK, v_BGSK = self.k_LBGSK[layer], self.v_LBGSK[layer]
        if self._even:
            k_BGSK[:, :, longest : longest + T] = k_BGTK
            v_BGSK[:, :, longest : longest + T] = v_BGTK
        else:
            for row, length in enumerate(self.lengths.tolist()):
                k_BGSK[row, :, length : length + T] = k_BGTK[row]
                v_BGSK[row, :, length : length + T] = v_BGTK[row]
        return k_BGSK[:, :, : longest + T], v_BGSK[:, :, : longest + T]

    def advance(self, T: int) -> None:
        """The T tokens of a forward pass are now part of every row."""
        self.lengths += T

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        length = int(self.lengths[source])
        self.k_LBGSK[:, target, :, :length] = self.k_LBGSK[:, source, :, :length]
        self.v_LBGSK[:, target, :, :length] = self.v_LBGSK[:, source, :, :length]
        self.lengths[target] = length

    def select(self, rows: list[int]) -> None:
        """Row i becomes a copy of row `rows[i]`; beam search picks its survivors with it."""
        longest, index = self.longest, torch.tensor(rows)
        for cache in (self.k_LBGSK, self.v_LBGSK):
            cache[:, :, :, :longest] = cache[:, index.to(cache.device), :, :longest]
        self.lengths[:] = self.lengths[index]


def lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that, on the CPU, take memory only where they are written.

    `torch.zeros` touches every page, and in NumPy's, which asks for huge pages, one written position takes two megabytes.
    """
    if device.type != "cpu" or not hasattr(mmap, "MADV_NOHUGEPAGE") or 0 in shape:
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages has none to refuse
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
