"""Batches without end, in an order that the seed decides, from any place it was left at."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from cutaway.data.batch import Batch, Rows
from cutaway.data.pack import collate, pack
from cutaway.data.store import Store

R = TypeVar("R", bound=Rows)


class Stream(Protocol):
    """An endless iterator of batches that can say where it stands and go back there."""

    @property
    def batches_per_epoch(self) -> int: ...
    def __next__(self) -> Rows: ...
    def __iter__(self) -> Iterator[Rows]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class BatchStream:
    """An endless iterator of batches over some pieces of a store.

    Args:
        store: the tokens.
        pieces: which pieces.
        rows: rows per batch.
        seq_len: positions per row.
        packing: share rows between documents; otherwise one document a row, as wide as the longest of the batch.
        seed: decides the order of every epoch.
        pad_id: what fills the rest of a row.
    """

    def __init__(
        self, store: Store, pieces: np.ndarray, rows: int, seq_len: int, packing: bool, seed: int, pad_id: int = 0
    ):
        assert len(pieces), "a stream over nothing"
        self.store, self.pieces, self.n_rows, self.seq_len = store, pieces, rows, seq_len
        self.packing, self.seed, self.pad_id = packing, seed, pad_id
        self.epoch, self.batch = 0, 0
        self._plan = lru_cache(maxsize=1)(self._plan_epoch)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        plan = self._plan(self.epoch)
        if self.batch == len(plan):
            self.epoch, self.batch = self.epoch + 1, 0
            plan = self._plan(self.epoch)
        self.batch += 1
        return self._make(plan[self.batch - 1])

    def once(self) -> Iterator[Batch]:
        """One pass in the order of the corpus, for evaluation; the stream's own place does not move."""
        for rows in self._batches(self._rows(self.pieces)):
            yield self._make(rows)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass."""
        return len(self._plan(self.epoch))

    def state(self) -> dict[str, int]:
        """Where the stream stands; JSON holds it."""
        return {"epoch": self.epoch, "batch": self.batch, "seed": self.seed}

    def restore(self, state: dict[str, int]) -> None:
        """Go to where `state` was taken."""
        assert state["seed"] == self.seed, "the state belongs to a stream of another seed"
        self.epoch, self.batch = state["epoch"], state["batch"]

    def _plan_epoch(self, epoch: int) -> list[list[list[int]]]:
        generator = np.random.default_rng([self.seed, epoch])
        rows = self._rows(generator.permutation(self.pieces))
        return self._batches([rows[i] for i in generator.permutation(len(rows))])

    def _rows(self, order: np.ndarray) -> list[list[int]]:
        if not self.packing:
            return [[int(index)] for index in order]
        lengths = self.store.lengths[order]
        return [[int(order[i]) for i in row] for row in pack(lengths.tolist(), self.seq_len)]

    def _batches(self, rows: list[list[int]]) -> list[list[list[int]]]:
        return [rows[i : i + self.n_rows] for i in range(0, len(rows), self.n_rows)]

    def _make(self, rows: Sequence[Sequence[int]]) -> Batch:
        pieces = [[self.store.piece(index) for index in row] for row in rows]
        longest = max(sum(len(ids) - 1 for ids, _ in row) for row in pieces)
        return collate(pieces, self.seq_len if self.packing else longest, self.pad_id)


class DrawnStream(Generic[R]):
    """The batches of a stream made into others with something drawn; at the same place always the same.

    Args:
        stream: where the batches come from.
        make: the new batch; all it draws comes from the generator.
    """

    def __init__(self, stream: BatchStream, make: Callable[[Batch, torch.Generator], R]):
        self.stream, self.make = stream, make

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        batch = next(self.stream)
        return self._made(batch, self.stream.epoch, self.stream.batch)

    def once(self) -> Iterator[R]:
        """One pass, for evaluation: the same is drawn every time."""
        for number, batch in enumerate(self.stream.once()):
            yield self._made(batch, 0, number)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass."""
        return self.stream.batches_per_epoch

    def state(self) -> dict[str, Any]:
        """Where the stream stands."""
        return self.stream.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        self.stream.restore(state)

    def _made(self, batch: Batch, *place: int) -> R:
        seed = np.random.default_rng([self.stream.seed, *place]).integers(2**63)
        return self.make(batch, torch.Generator().manual_seed(int(seed)))
