"""Which blocks of the cache hold what: shared, found again by what they hold, given back; no tensors.

A block is `BLOCK_SIZE` positions. Sequences with the same beginning share its blocks (Kwon et al. 2023, PagedAttention). A full
block is findable by a name made of everything its keys and values depend on; it stays so after its last user, until its place is
needed, the least recently used first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_SIZE = 16


def blocks_for(positions: int) -> int:
    """How many blocks hold so many positions."""
    return -(-positions // BLOCK_SIZE)


class BlockManager:
    """Counts who uses each of `n_blocks` blocks.

    Args:
        regions: how many sequences are expected at once; new ones begin that far apart, so that each may grow in one run.
    """

    def __init__(self, n_blocks: int, regions: int = 1):
        self.n_blocks = n_blocks
        self._region = max(1, n_blocks // regions)
        self._users = [0] * n_blocks
        self._name: dict[int, bytes] = {}
        self._found: dict[bytes, int] = {}
        self._empty = OrderedDict.fromkeys(range(n_blocks))  # free and nameless
        self._kept: OrderedDict[int, None] = OrderedDict()  # free and findable, least recently used first

    @property
    def free(self) -> int:
        """Blocks that nobody uses."""
        return len(self._empty) + len(self._kept)

    @property
    def used(self) -> int:
        """Blocks that somebody uses."""
        return self.n_blocks - self.free

    def find(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the longest beginning of `names` that are still there; nobody's until `share`."""
        found: list[int] = []
        for name in names:
            if name not in self._found:
                break
            found.append(self._found[name])
        return found

    def unused(self, blocks: Iterable[int]) -> int:
        """How many of them nobody uses."""
        return sum(not self._users[block] for block in blocks)

    def shared(self, block: int) -> bool:
        """Whether it has several users: none of them may write to it."""
        return self._users[block] > 1

    def share(self, block: int) -> None:
        """One more user of a block that was found, or that somebody uses."""
        if not self._users[block]:
            del self._kept[block]
        self._users[block] += 1

    def take(self, after: int | None = None) -> int:
        """A free block for one user: the one behind `after`, if that is empty. There must be one."""
        if not self._empty:
            self._forget_oldest()
        if after is not None and after + 1 in self._empty:
            block = after + 1
        else:
            starts = range(0, self.n_blocks, self._region)
            block = next((start for start in starts if start in self._empty), next(iter(self._empty)))
        del self._empty[block]
        self._users[block] = 1
        return block

    def name(self, block: int, name: bytes) -> None:
        """Make a full block findable; of two with one name, the first stays so."""
        if name not in self._found and block not in self._name:
            self._found[name], self._name[block] = block, name

    def release(self, blocks: Sequence[int], forget: bool = False) -> None:
        """One user less of each block of a sequence; with `forget`, they are not found again.

        Its end is given away before its beginning, without which it could not be used.
        """
        for block in reversed(blocks):
            assert self._users[block], f"block {block} is free already"
            self._users[block] -= 1
            if forget and block in self._name:
                del self._found[self._name.pop(block)]
            if not self._users[block]:
                (self._kept if block in self._name else self._empty)[block] = None

    def _forget_oldest(self) -> None:
        """Empty the least recently used blocks, some at a time, so that a sequence can grow in one run."""
        for _ in range(min(len(self._kept), max(1, self._region // 8))):
            block, _ = self._kept.popitem(last=False)
            del self._found[self._name.pop(block)]
            self._empty[block] = None
