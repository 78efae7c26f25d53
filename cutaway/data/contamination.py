"""Evaluation items that the training data holds: n-grams of words that both have.

Source: Brown et al. (2020), Language Models are Few-Shot Learners (GPT-3), appendix C: 13-grams of words without case and
punctuation; n-grams that stand in more than 10 training documents are common phrases and do not count. Deviations: a shorter
item, of at least `least` words, is looked for whole; of Chinese and Japanese n-grams are twice as many characters.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from cutaway.core.config import Config
from cutaway.data.duplicates import normalise
from cutaway.data.read import Record
from cutaway.data.units import text_of, unspaced, words

_PLACES = 5  # shown of where an item was found


class ContaminationConfig(Config):
    """What counts as seen."""

    n: int = Field(13, ge=1, description="words of an n-gram")
    least: int = Field(8, ge=1, description="words of the shortest item that is looked for")
    common: int = Field(10, ge=1, description="an n-gram in more training records than this is a common phrase")


@dataclass(frozen=True)
class Hit:
    """An evaluation item of which the training data holds n-grams.

    Args:
        where: the place of the item.
        share: of its n-grams, how many the training data holds.
        found: places in the training data, the first few.
        example: one n-gram that both have.
    """

    where: str
    share: float
    found: tuple[str, ...]
    example: str


@dataclass
class _Gram:
    places: list[str] = field(default_factory=list)
    count: int = 0


class Contamination:
    """The n-grams of evaluation items, to be looked for in any amount of training data: memory grows with the former alone."""

    def __init__(self, items: Iterable[Record], config: ContaminationConfig):
        self._config = config
        self._items: list[tuple[str, list[str]]] = []  # place and distinct n-grams
        self._grams: dict[str, _Gram] = {}
        self._lengths: set[int] = set()
        self.items = self.too_short = 0
        for record in items:
            self.items += 1
            self._add(record)
        self._shortest = min(self._lengths, default=0)
        # Only where the first words of an n-gram stand, as many as the shortest has, are those of other lengths looked up.
        self._starts = {" ".join(gram.split()[: self._shortest]) for gram in self._grams}

    def look(self, record: Record) -> bool:
        """Look for the items in a training record; says whether it holds part of one."""
        listed = _words(text_of(record))
        found = {
            gram
            for start, first in enumerate(_ngrams(listed, self._shortest))
            if first in self._starts
            for n in self._lengths
            if (gram := " ".join(listed[start : start + n])) in self._grams
        }
        for gram in found:
            known = self._grams[gram]
            known.count += 1
            if len(known.places) < _PLACES:
                known.places.append(record.where)
        return bool(found)

    def hits(self) -> list[Hit]:
        """The items found so far, the most complete first."""
        found = []
        for where, grams in self._items:
            seen = [gram for gram in grams if 0 < self._grams[gram].count <= self._config.common]
            if seen:
                places = dict.fromkeys(place for gram in seen for place in self._grams[gram].places)
                found.append(Hit(where, len(seen) / len(grams), tuple(places)[:_PLACES], seen[0]))
        return sorted(found, key=lambda hit: -hit.share)

    def _add(self, record: Record) -> None:
        text = text_of(record)
        listed, longer = _words(text), 2 if unspaced(text) else 1
        if len(listed) < longer * self._config.least:
            self.too_short += 1
            return
        n = min(len(listed), longer * self._config.n)
        grams = list(dict.fromkeys(_ngrams(listed, n)))
        for gram in grams:
            self._grams.setdefault(gram, _Gram())
        self._items.append((record.where, grams))
        self._lengths.add(n)


def _words(text: str) -> list[str]:
    return words(normalise(text))


def _ngrams(listed: list[str], n: int) -> Iterable[str]:
    return (" ".join(listed[start : start + n]) for start in range(len(listed) - n + 1))
