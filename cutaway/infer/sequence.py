"""A text in the making as the scheduler sees it: its tokens, its blocks, how far the cache holds it; no tensors."""

from array import array
from collections.abc import Callable, Sequence
from hashlib import sha256

from cutaway.infer.blocks import BLOCK_SIZE

Extra = Callable[[int, int], bytes]


class TokenSequence:
    """One text.

    Args:
        id: several may have the same; they are cancelled together.
        prompt_ids: where it begins.
        priority: a lower number goes first.
        salt: what else keys and values depend on; sequences with different salts share no blocks.
        extra: the same of the positions from one to another.
        reuse: whether it may begin with blocks that others have computed.
    """

    def __init__(
        self,
        id: str,
        prompt_ids: Sequence[int],
        priority: int = 0,
        salt: str = "",
        extra: Extra | None = None,
        reuse: bool = True,
    ):
        self.id, self.prompt_length, self.priority, self.reuse = id, len(prompt_ids), priority, reuse
        self.ids = list(prompt_ids)
        self.table: list[int] = []
        self.guesses: list[int] = []  # of what follows `ids`
        self.computed = 0  # positions whose keys and values are in its blocks
        self.cached: int | None = None  # tokens that were there when it first ran
        self.rank: tuple[int, int] = (0, 0)  # the scheduler's
        self._salt, self._extra, self._names = salt, extra, list[bytes]()

    @property
    def pending(self) -> int:
        """Tokens that the cache does not hold; one, while it is being written."""
        return len(self.ids) - self.computed

    def names(self, blocks: int) -> list[bytes]:
        """Names of its first blocks, which must be full: hashes of their tokens, of all before, and of what else counts."""
        while len(self._names) < blocks:
            start = len(self._names) * BLOCK_SIZE
            stop = start + BLOCK_SIZE
            before = self._names[-1] if self._names else sha256(self._salt.encode()).digest()
            extra = self._extra(start, stop) if self._extra else b""
            self._names.append(sha256(before + array("q", self.ids[start:stop]).tobytes() + extra).digest())
        return self._names[:blocks]
