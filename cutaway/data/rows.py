"""Rows that are held in memory (pairs, labelled texts, anything that a function puts together), and batches of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import xxhash
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.data.batch import Rows

T = TypeVar("T")
B = TypeVar("B", bound=Rows)
_POOL = 50  # batches whose rows are sorted by length together: little padding, and still a random order


class RecordsConfig(Config):
    """Where the records are that become rows."""

    path: Path = Field(description="file, folder or pattern; JSONL, JSON or Parquet")
    held_out: Path | None = Field(None, description="records to evaluate on; null: a share of the others")
    held_out_share: float = Field(0.1, gt=0, lt=1)
    encoding: str = "utf-8"


class RowStream(Generic[T, B]):
    """An endless iterator of batches in an order that the seed decides, from any place it was left at.

    Args:
        rows: what there is.
        collate: puts some rows together; the generator is for what is drawn anew in every epoch, and the same at the same place.
        size: rows per batch.
        seed: decides the order of every epoch.
        length: of a row; rows of like length share a batch.
        least: rows of a batch; a last one of fewer goes with the one before it.
    """

    def __init__(
        self,
        rows: Sequence[T],
        collate: Callable[[list[T], np.random.Generator], B],
        size: int,
        seed: int,
        length: Callable[[T], int] = lambda row: 0,
        least: int = 1,
    ):
        assert rows, "a stream over nothing"
        self.rows, self.collate, self.size, self.seed, self.length = rows, collate, size, seed, length
        self.least = least
        self.epoch, self.batch = 0, 0
        self._plan = lru_cache(maxsize=1)(self._plan_epoch)

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        if self.batch == self.batches_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        self.batch += 1
        drawn = np.random.default_rng([self.seed, self.epoch, self.batch])
        return self.collate([self.rows[i] for i in self._plan(self.epoch)[self.batch - 1]], drawn)

    def once(self) -> Iterator[B]:
        """One pass, shortest rows first, for evaluation: the same batches every time; the stream's own place does not move."""
        order = sorted(range(len(self.rows)), key=lambda i: (self.length(self.rows[i]), i))
        for number, places in enumerate(self._cut(order)):
            yield self.collate([self.rows[i] for i in places], np.random.default_rng([self.seed, number]))

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass."""
        whole, rest = divmod(len(self.rows), self.size)
        return max(1, whole + (rest >= self.least))

    def state(self) -> dict[str, Any]:
        """Where the stream stands; JSON holds it."""
        return {"epoch": self.epoch, "batch": self.batch, "seed": self.seed}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        assert state["seed"] == self.seed, "the state belongs to a stream of another seed"
        self.epoch, self.batch = state["epoch"], state["batch"]

    def _plan_epoch(self, epoch: int) -> list[list[int]]:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.rows)).tolist()
        pool = self.size * _POOL
        for start in range(0, len(order), pool):
            order[start : start + pool] = sorted(order[start : start + pool], key=lambda i: self.length(self.rows[i]))
        batches = self._cut(order)
        return [batches[i] for i in generator.permutation(len(batches))]

    def _cut(self, order: list[int]) -> list[list[int]]:
        batches = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        if len(batches) > 1 and len(batches[-1]) < self.least:
            batches[-2:] = [batches[-2] + batches[-1]]
        return batches


@dataclass(frozen=True)
class RowCorpus(Generic[T, B]):
    """Training batches, batches to evaluate on, and what was left out."""

    train: RowStream[T, B]
    held_out: RowStream[T, B]
    skipped: dict[str, dict] = field(default_factory=dict)


def padded(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one tensor, filled up on the right, and where they are real."""
    ids = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    lengths = torch.tensor([len(row) for row in rows])
    return torch.from_numpy(ids), torch.arange(ids.shape[1]) < lengths[:, None]


def sides(
    rows: Sequence[T], held: Sequence[T] | None, share: float, key: Callable[[T], str], least: int = 1
) -> tuple[list[T], list[T]]:
    """Rows to learn from and rows to evaluate on: others that are given, or else some of the first, as `split` finds them.

    Raises:
        ConfigError: a side has fewer than `least`.
    """
    if held is None:
        return split(rows, share, key, least)
    for name, some in (("data.path", rows), ("data.held_out", held)):
        if len(some) < least:
            raise ConfigError(f"holds fewer than {least} rows", field=name, value=len(some))
    return list(rows), list(held)


def split(rows: Sequence[T], share: float, key: Callable[[T], str], least: int = 1) -> tuple[list[T], list[T]]:
    """Rows for training and rows held out; a row's own key decides, so that copies of it stay together. Where that leaves a side
    with fewer than `least`, the last so many are held out.

    Raises:
        ConfigError: there are not twice as many.
    """
    held = [xxhash.xxh3_64_intdigest(key(row).encode()) % 2**32 < share * 2**32 for row in rows]
    if min(sum(held), len(rows) - sum(held)) < least:
        if len(rows) < 2 * least:
            few = "one row only" if least == 1 else f"fewer than {2 * least} rows"
            raise ConfigError(f"holds {few}, and none can be held out", field="data", hint="give held-out data")
        held = [number >= len(rows) - least for number in range(len(rows))]
    sides = list(zip(rows, held, strict=True))
    return [row for row, out in sides if not out], [row for row, out in sides if out]
