"""What each step computes: continuous batching in a paged cache, under a budget of tokens; no tensors.

Running sequences that are being written come first, one token each; what is left of the budget goes to prompts, in chunks (Orca,
Yu et al. 2022; Sarathi, Agrawal et al. 2023). When blocks run out, the last in rank gives its own back and is computed
again later, with all it has written.
"""

from bisect import insort
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cutaway.infer.blocks import BLOCK_SIZE, BlockManager, blocks_for
from cutaway.infer.sequence import TokenSequence

PATIENCE = 256
"""How many later requests of the next better priority may overtake one: whoever waits gets a turn."""

T = TypeVar("T", bound=TokenSequence)


@dataclass(frozen=True)
class Chunk(Generic[T]):
    """Tokens `start` to `stop` of a sequence, to be computed in this step, and guesses of what follows them."""

    sequence: T
    start: int
    stop: int
    guesses: list[int] = field(default_factory=list)

    @property
    def last(self) -> bool:
        """Whether a new token can be drawn after it."""
        return self.stop == len(self.sequence.ids)


@dataclass(frozen=True)
class Step(Generic[T]):
    """The chunks of one step, and the blocks (source, target) that are to be copied before, in order."""

    chunks: list[Chunk[T]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)


class Scheduler(Generic[T]):
    """Decides who runs.

    Args:
        blocks: of the cache; one sequence of any length that is added must fit.
        max_batch: sequences that run at once.
        budget: tokens per step, at least `max_batch`.
        chunk: tokens of one sequence per step.
    """

    def __init__(self, blocks: BlockManager, max_batch: int, budget: int, chunk: int):
        assert max_batch <= budget
        self.blocks, self.max_batch, self.budget, self.chunk = blocks, max_batch, budget, chunk
        self.waiting: list[T] = []  # both by rank, best first
        self.running: list[T] = []
        self._added = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running

    def add(self, sequence: T) -> None:
        """Queue a sequence: first come, first served within a priority."""
        number = self._next_number()
        sequence.rank = (number + PATIENCE * sequence.priority, number)
        insort(self.waiting, sequence, key=_rank)

    def schedule(self) -> Step[T]:
        """What to compute now. `commit` must follow, once that is done."""
        step, budget = Step[T](), self.budget
        # By rank, so that whoever gives its blocks back has no chunk in this step.
        for one in sorted(self.running, key=lambda one: (one.pending > 1, one.rank)):
            if budget and one in self.running and self._make_room(one, step):
                budget -= self._compute(one, budget, step)
        read = {name for one in self.running for name in self._unread(one)} if self.waiting else set()
        for one in list(self.waiting):
            if not budget or len(self.running) == self.max_batch:
                break
            if one.reuse and self._next_unread(one) in read:
                continue  # another is reading the same: its blocks will be there
            if not self._admit(one):
                break
            read.update(self._unread(one))
            budget -= self._compute(one, budget, step)
        return step

    def commit(self, step: Step[T]) -> None:
        """The chunks are computed: their positions are in the cache, their full blocks findable."""
        for chunk in step.chunks:
            self.accept(chunk.sequence, chunk.stop - chunk.start)

    def accept(self, one: T, count: int) -> None:
        """So many more tokens of a sequence are computed: those of a chunk, then those of its guesses that became tokens."""
        begun = one.computed // BLOCK_SIZE
        one.computed += count
        names = one.names(one.computed // BLOCK_SIZE)
        for block, name in zip(one.table[begun : len(names)], names[begun:], strict=True):
            self.blocks.name(block, name)

    def fork(self, parent: T, child: T) -> None:
        """A sequence with the parent's tokens goes its own way, on the parent's blocks; it waits if all places are taken."""
        child.rank, child.cached = (parent.rank[0], self._next_number()), parent.cached
        if len(self.running) == self.max_batch:
            insort(self.waiting, child, key=_rank)
            return
        child.computed, child.table = parent.computed, list(parent.table)
        for block in child.table:
            self.blocks.share(block)
        insort(self.running, child, key=_rank)

    def remove(self, sequence: T, forget: bool = False) -> None:
        """Take a sequence out, wherever it is; with `forget`, what it computed is not found again."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._release(sequence, forget)

    def _next_number(self) -> int:
        self._added += 1
        return self._added

    def _compute(self, one: T, budget: int, step: Step[T]) -> int:
        stop = one.computed + min(one.pending, budget, self.chunk)
        if one.computed < one.prompt_length:  # inputs besides the tokens end with the prompt, and the chunk with them
            stop = min(stop, one.prompt_length)
        guesses = self._guesses(one) if one.pending == 1 else []
        step.chunks.append(Chunk(one, one.computed, stop, guesses))
        return stop - one.computed + len(guesses)

    def _guesses(self, one: T) -> list[int]:
        """As many as leave everybody a share of the budget and a block."""
        guesses = one.guesses[: self.budget // self.max_batch - 1]
        while self.blocks.free > len(self.running) and self._needs_block(one, len(guesses)):
            self._take_block(one)
        return guesses[: len(one.table) * BLOCK_SIZE - len(one.ids)]

    def _admit(self, one: T) -> bool:
        """Give a waiting sequence blocks for all its tokens, and one to spare while others run."""
        found = self.blocks.find(self._names(one)) if one.reuse else []
        new = blocks_for(len(one.ids)) - len(found)
        if self.blocks.unused(found) + new + bool(self.running) > self.blocks.free:
            return False
        for block in found:
            self.blocks.share(block)
        one.table, one.computed = found, BLOCK_SIZE * len(found)
        one.cached = one.computed if one.cached is None else one.cached
        self._grow(one)
        self.waiting.remove(one)
        insort(self.running, one, key=_rank)
        return True

    def _grow(self, one: T) -> bool:
        while self._needs_block(one):
            if not self.blocks.free:
                return False
            self._take_block(one)
        return True

    def _needs_block(self, one: T, more: int = 0) -> bool:
        return len(one.table) < blocks_for(len(one.ids) + more)

    def _take_block(self, one: T) -> None:
        one.table.append(self.blocks.take(one.table[-1] if one.table else None))

    def _make_room(self, one: T, step: Step[T]) -> bool:
        """Blocks that a running sequence may write to, taken from the last in rank if need be; false when that is itself."""
        number = one.computed // BLOCK_SIZE
        while not self._grow(one) or (self.blocks.shared(one.table[number]) and not self.blocks.free):
            last = self.running.pop()
            self._release(last)
            insort(self.waiting, last, key=_rank)
            if last is one:
                return False
        if self.blocks.shared(one.table[number]):
            source, target = one.table[number], self.blocks.take(one.table[number - 1] if number else None)
            step.copies.append((source, target))
            self.blocks.release([source])
            one.table[number] = target
        return True

    def _release(self, one: T, forget: bool = False) -> None:
        self.blocks.release(one.table, forget)
        one.table, one.computed, one.guesses = [], 0, []

    def _names(self, one: T) -> list[bytes]:
        """Of the blocks that may be found: one token at least is left to compute, for its logits."""
        return one.names((len(one.ids) - 1) // BLOCK_SIZE)

    def _unread(self, one: T) -> list[bytes]:
        return self._names(one)[one.computed // BLOCK_SIZE :]

    def _next_unread(self, one: T) -> bytes | None:
        names = self._names(one)
        found = len(self.blocks.find(names))
        return names[found] if found < len(names) else None


def _rank(sequence: TokenSequence) -> tuple[int, int]:
    return sequence.rank
