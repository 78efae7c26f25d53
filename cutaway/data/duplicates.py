"""Texts that came before: exact duplicates by a hash, near duplicates by MinHash and locality-sensitive hashing.

The similarity of two texts is the Jaccard index of their sets of shingles, runs of `shingle` words. A MinHash signature
estimates it without bias, with a standard deviation of √(J(1-J)/permutations); banded signatures find candidates without
comparing all pairs.

Sources: Broder (1997), On the resemblance and containment of documents; Leskovec et al., Mining of Massive Datasets, ch. 3;
Lee et al. (2022), Deduplicating Training Data Makes Language Models Better. Unlike the last, candidates are judged by the
estimated similarity, and the first text of a cluster is kept, so that a stream is read once.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import xxhash
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.errors import ResourceError
from cutaway.data.units import words

_BATCH = 4096  # shingles hashed together; all of a book's would take a gigabyte


class DuplicateConfig(Config):
    """Which texts count as the same."""

    near: bool = Field(True, description="find near duplicates too, not only exact ones")
    threshold: float = Field(0.8, gt=0, le=1, description="the least similarity (Jaccard index) of near duplicates")
    shingle: int = Field(5, ge=1, description="words per shingle; of Chinese and Japanese, characters")
    permutations: int = Field(128, ge=16, description="length of a signature; more estimate better")
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Duplicate:
    """A text that came before.

    Args:
        where: the place of this text.
        first: the place of the earlier one, which is kept.
        similarity: 1 for an exact duplicate, else the estimated Jaccard index.
        exact: whether the normalised texts are equal.
    """

    where: str
    first: str
    similarity: float
    exact: bool


@dataclass(frozen=True)
class Mark:
    """What is remembered of a text: a digest of its normalised form, and the values of its signature where near duplicates are
    looked for."""

    digest: bytes
    values: np.ndarray | None


def mark(text: str, config: DuplicateConfig) -> Mark:
    """The mark of a text.

    Raises:
        ResourceError: `near` is asked for and datasketch is not installed.
    """
    digest = xxhash.xxh3_128_digest(normalise(text).encode("utf-8", "surrogatepass"))
    if not config.near:
        return Mark(digest, None)
    signature = _empty(config.permutations, config.seed).copy()
    listed = iter(shingles(text, config.shingle))
    while batch := list(islice(listed, _BATCH)):
        signature.update_batch([one.encode("utf-8", "surrogatepass") for one in batch])
    return Mark(digest, signature.hashvalues)


class Seen:
    """The distinct texts so far. It holds no text: about 6 kB for each distinct one, however long it is (160 bytes where
    only exact duplicates are looked for).

    Raises:
        ResourceError: `near` is asked for and datasketch is not installed.
    """

    def __init__(self, config: DuplicateConfig):
        self._config = config
        self._places: dict[bytes, str] = {}
        if config.near:
            _, LSH = _datasketch()
            # A missed candidate is lost, a false one is only compared: recall weighs more than precision.
            self._index = LSH(config.threshold, config.permutations, weights=(0.1, 0.9))
            self._signatures: list[tuple[str, np.ndarray]] = []

    def add(self, text: str, where: str) -> Duplicate | None:
        """What earlier text this one repeats, the most similar one; None for a new text, which is remembered."""
        return self.add_mark(mark(text, self._config), where)

    def add_mark(self, one: Mark, where: str) -> Duplicate | None:
        """As `add`, for a text whose mark was made before."""
        if first := self._places.get(one.digest):
            return Duplicate(where, first, 1.0, exact=True)
        if one.values is not None:
            signature = _empty(self._config.permutations, self._config.seed).copy()
            signature.hashvalues = one.values
            found = [self._signatures[candidate] for candidate in sorted(self._index.query(signature))]
            similar = [(float(np.mean(values == one.values)), first) for first, values in found]
            best = max(similar, key=lambda pair: pair[0], default=(0.0, ""))
            if best[0] >= self._config.threshold:
                return Duplicate(where, best[1], best[0], exact=False)
            self._index.insert(len(self._signatures), signature, check_duplication=False)
            self._signatures.append((where, one.values))
        self._places[one.digest] = where
        return None


def normalise(text: str) -> str:
    """A text without what people do not see as a difference: compatibility forms, case, spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str, size: int) -> set[str]:
    """The runs of `size` words of a text, its case and punctuation aside; of a shorter text, all of it; of one without
    words, its normalised form."""
    text = normalise(text)
    listed = words(text)
    if not listed:
        return {text}
    return {" ".join(listed[start : start + size]) for start in range(max(1, len(listed) - size + 1))}


def jaccard(a: str, b: str, size: int) -> float:
    """The exact similarity of two texts: shared shingles by all shingles."""
    one, other = shingles(a, size), shingles(b, size)
    return len(one & other) / len(one | other)


def clusters(duplicates: Iterable[Duplicate]) -> dict[str, list[Duplicate]]:
    """The duplicates by the text that is kept, largest cluster first."""
    found: dict[str, list[Duplicate]] = {}
    for one in duplicates:
        found.setdefault(one.first, []).append(one)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


@cache
def _empty(permutations: int, seed: int) -> Any:
    """A signature of nothing; others are copies of it, with its permutations."""
    MinHash, _ = _datasketch()
    return MinHash(permutations, seed, hashfunc=xxhash.xxh32_intdigest)


def _datasketch() -> tuple[type, type]:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise ResourceError("near duplicates need the package datasketch", hint="pip install datasketch") from None
    return MinHash, MinHashLSH
