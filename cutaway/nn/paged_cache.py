"""A key-value cache in blocks of positions; a table says which blocks a sequence has, in order.

Blocks lie side by side. Rows whose blocks follow each other, at equal distances, are read as a view; others are gathered into one
buffer that all layers share, so that it stays in the processor's own cache.

B rows, N blocks, P positions of a block, G key-value heads, T new positions, S positions up to the longest row, K head width.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from cutaway.nn.cache import KVCache


class PagedCache:
    """Keys and values of N blocks.

    Args:
        store: a cache of one row with N · P positions, whose memory this is.
        block_size: P.
    """

    def __init__(self, store: KVCache, block_size: int):
        self.store, self.block_size = store, block_size
        self._gathered = [store.k_LBGSK.new_empty(0), store.v_LBGSK.new_empty(0)]

    def rows(self, tables: Sequence[Sequence[int]], lengths: Sequence[int], T: int) -> "PagedRows":
        """Some sequences, for a forward pass of T tokens of each.

        Args:
            tables: the blocks of each row, enough for what it holds and the T tokens.
            lengths: how many positions each row holds.
        """
        return PagedRows(self, tables, lengths, T)

    def copy(self, source: int, target: int) -> None:
        """One block over another."""
        for cache_LGSK in self._parts:
            blocks_LGNPK = cache_LGSK.unflatten(2, (-1, self.block_size))
            blocks_LGNPK[:, :, target] = blocks_LGNPK[:, :, source]

    def clear(self, table: Sequence[int], start: int, stop: int) -> None:
        """Zeros at some positions of a sequence."""
        for cache_LGSK in self._parts:
            cache_LGSK[:, :, self.places(table, start, stop)] = 0

    def places(self, table: Sequence[int], start: int, stop: int) -> list[int]:
        """Where positions of a sequence lie in the store."""
        P = self.block_size
        return [table[at // P] * P + at % P for at in range(start, stop)]

    def gather(self, part: int, store_GSK: Tensor, blocks: Tensor) -> Tensor:
        """Some blocks, G × n × P × K, in memory that the next call for the same part (0: keys, 1: values) uses again."""
        G, _, K = store_GSK.shape
        shape = (G, len(blocks), self.block_size, K)
        size = G * len(blocks) * self.block_size * K
        if self._gathered[part].numel() < size:
            self._gathered[part] = store_GSK.new_empty(size + size // 2)  # not a little more at every step
        out = self._gathered[part][:size].view(shape)
        return torch.index_select(store_GSK.unflatten(1, (-1, self.block_size)), 1, blocks, out=out)

    @property
    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.store.k_LBGSK[:, 0], self.store.v_LBGSK[:, 0]


class PagedRows(KVCache):
    """Sequences of a paged cache as a `KVCache`; see `PagedCache.rows`. One forward pass goes over it."""

    def __init__(self, cache: PagedCache, tables: Sequence[Sequence[int]], lengths: Sequence[int], T: int):
        self.k_LBGSK, self.v_LBGSK, self._cache = cache.store.k_LBGSK, cache.store.v_LBGSK, cache
        self.lengths, self._S = torch.tensor(lengths), max(lengths) + T
        device, blocks = self.k_LBGSK.device, -(-self._S // cache.block_size)
        rows = [list(table[:blocks]) for table in tables]
        places = [cache.places(row, length, length + T) for row, length in zip(rows, lengths, strict=True)]
        self._places = torch.tensor(places, device=device).flatten()
        self._run, self._blocks = self._find_run(rows, cache.block_size), torch.empty(0)
        if self._run is None:
            # What a row lacks is masked, but must hold numbers: another row's may be none.
            filled = [row + row[-1:] * (blocks - len(row)) for row in rows]
            self._blocks = torch.tensor(filled, device=device).flatten()

    def write(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """As `KVCache.write`; of rows that are no view, what it returns holds until the next call."""
        return self._write(0, self.k_LBGSK[layer, 0], k_BGTK), self._write(1, self.v_LBGSK[layer, 0], v_BGTK)

    def _write(self, part: int, store_GSK: Tensor, new_BGTK: Tensor) -> Tensor:
        B, (G, _, K) = len(self.lengths), store_GSK.shape
        if not K:  # latent attention without rotary positions keeps no values
            return new_BGTK.new_empty(B, G, self._S, 0)
        store_GSK.index_copy_(1, self._places, new_BGTK.transpose(0, 1).flatten(1, 2).to(store_GSK.dtype))
        if self._run is not None:
            start, distance = self._run
            head, position, _ = store_GSK.stride()
            strides = (distance * position, head, position, 1)
            return store_GSK.as_strided((B, G, self._S, K), strides, store_GSK.storage_offset() + start * position)
        found = self._cache.gather(part, store_GSK, self._blocks)
        return found.view(G, B, -1, K).transpose(0, 1)[:, :, : self._S]

    def _find_run(self, rows: list[list[int]], P: int) -> tuple[int, int] | None:
        """The first position of the first row and the distance to the next, where all rows are a view. Rows may not overlap, even
        where they are masked."""
        starts = [row[0] for row in rows]
        if any(row != list(range(start, start + len(row))) for row, start in zip(rows, starts, strict=True)):
            return None
        distances = {b - a for a, b in pairwise(starts)}
        distance = P * min(distances, default=0)
        overlap = len(rows) > 1 and distance < self._S
        if len(distances) > 1 or overlap or P * starts[-1] + self._S > self.capacity:
            return None
        return P * starts[0], distance
