"""Who runs: first come, first served, on rows 0 … n-1 of the cache; no tensors.

Running requests always occupy the first rows, so that the batch is a view of the cache. When one ends, the last row moves
into its place.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class HasPrompt(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def prompt_length(self) -> int: ...


T = TypeVar("T", bound=HasPrompt)


@dataclass(frozen=True)
class Move:
    """Row `source` of the cache goes to row `target`."""

    source: int
    target: int


class Scheduler(Generic[T]):
    """Admits waiting requests to rows, and frees rows.

    Args:
        rows: how many requests run at once.
        prefill_tokens: prompt tokens admitted per step, so that a crowd of long prompts does not hold up those that run; one
            request is admitted whatever its length.
    """

    def __init__(self, rows: int, prefill_tokens: int):
        self.rows, self.prefill_tokens = rows, prefill_tokens
        self.waiting: deque[T] = deque()
        self.running: list[T] = []

    def add(self, request: T) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def admit(self) -> list[tuple[int, T]]:
        """The requests that start now, each with its row."""
        admitted: list[tuple[int, T]] = []
        tokens = 0
        while self.waiting and len(self.running) < self.rows:
            tokens += self.waiting[0].prompt_length
            if admitted and tokens > self.prefill_tokens:
                break
            request = self.waiting.popleft()
            admitted.append((len(self.running), request))
            self.running.append(request)
        return admitted

    def remove(self, id: str) -> tuple[T | None, Move | None]:
        """Take a request out, wherever it is; the move says which row of the cache must follow."""
        for request in self.waiting:
            if request.id == id:
                self.waiting.remove(request)
                return request, None
        row = next((row for row, request in enumerate(self.running) if request.id == id), None)
        if row is None:
            return None, None
        removed, last = self.running[row], len(self.running) - 1
        self.running[row] = self.running[last]
        self.running.pop()
        return removed, Move(last, row) if row != last else None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running
