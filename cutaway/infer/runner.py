"""What the engine asks of a model: some tokens of some sequences, in blocks of a cache.

V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Work:
    """The tokens of one sequence that a step computes.

    Args:
        ids: the tokens, at least one.
        start: the position of the first; the cache holds what comes before.
        table: the sequence's blocks, in order, enough for all of these.
        wanted: which of `ids` the logits are asked for.
        inputs: what the model reads besides the ids of the prompt (see `Request`), from position 0; none of `ids` lies behind
            their end if one lies before.
        adapter: which variant of the model computes it (see `Request`).
    """

    ids: Sequence[int]
    start: int
    table: Sequence[int]
    wanted: Sequence[int]
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    adapter: str = ""


class Runner(Protocol):
    """A model with a cache of `n_blocks` blocks of `blocks.BLOCK_SIZE` positions. Only this part touches tensors of the model."""

    n_blocks: int

    def run(self, work: Sequence[Work]) -> Tensor:
        """Compute all work, none of which reads what another writes.

        Returns:
            The logits that are asked for, in order: float32, rows × V. Those of a sequence in which something is not a number are
            not numbers; others do not suffer.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy one block over another."""
        ...
