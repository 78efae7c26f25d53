"""Tokens that follow from two earlier ones, at known distances: data whose lowest loss is known, and which asks for order.

The token at place t is `table[token at t − far, token at t − near]`; with probability `noise` it is any token instead. The table
is a Latin square: either of the two tokens alone says nothing about the next.

Shapes: V vocabulary, B rows, T positions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.loss.language_modelling import IGNORED


@dataclass(frozen=True)
class LaggedTokens:
    """A source of rows.

    Args:
        seed: of the table.
        near, far: distances of the two tokens that decide; 1 is the token just before.
        V: vocabulary.
        noise: probability of any token instead.
    """

    seed: int
    near: int = 1
    far: int = 2
    V: int = 5
    noise: float = 0.1
    table_VV: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        assert 0 < self.near < self.far
        generator = torch.Generator().manual_seed(self.seed)
        rows_V, columns_V, symbols_V = (torch.randperm(self.V, generator=generator) for _ in range(3))
        object.__setattr__(self, "table_VV", symbols_V[(rows_V[:, None] + columns_V) % self.V])

    @property
    def floor(self) -> float:
        """The lowest loss that is possible, in nats per token."""
        other = self.noise / self.V
        right = 1 - self.noise + other
        return -right * math.log(right) - (self.V - 1) * other * math.log(other)

    def batch(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """New rows; targets that the rows cannot decide, at their beginning, are not supervised."""
        ids = torch.randint(self.V, (B, T + 1), generator=generator)
        noisy = torch.rand(B, T + 1, generator=generator) < self.noise
        for t in range(self.far, T + 1):
            ids[:, t] = torch.where(noisy[:, t], ids[:, t], self.table_VV[ids[:, t - self.far], ids[:, t - self.near]])
        targets = ids[:, 1:].clone()
        targets[:, : self.far - 1] = IGNORED
        return Batch(ids[:, :-1], targets, torch.arange(T).expand(B, T), torch.ones(B, T, dtype=torch.int64))

    def batches(self, B: int, T: int, seed: int) -> Iterator[Batch]:
        """Endless new rows."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield self.batch(B, T, generator)
