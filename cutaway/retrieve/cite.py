"""Which passage a sentence of a reply rests on, and where in it that is said.

A sentence is supported by one or two sentences of a passage that hold nearly all its words that carry meaning, every number in
it, and whichever words in it turn a statement around (not, all, only, more …). This is strict on purpose: what is said in
other words is only related to a passage, which is told apart, because words alone cannot tell a true paraphrase from a false
one. It is still no proof: the passage's own words in another order ("keys ask, queries answer") pass.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cutaway.retrieve.full_text import terms
from cutaway.retrieve.index import Hit
from cutaway.text.sentences import Span, sentences

# Share of a sentence's words, chosen on half of tests/retrieve/claims.jsonl; docs/log.md has the figures of the other half.
SUPPORTED, RELATED = 0.85, 0.6
_LEAST_GAIN = 1 / 3  # of the words, that a second sentence of the passage must add
MOST_CITED = 2
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# Search leaves most of these out. Those of one kind, English and Chinese, stand for each other.
_TURNS = {
    "not": (r"no|not|never|none|nor|neither|without|cannot|nothing|\w+n['’]t", "不|没|无|未|非"),
    "all": ("all|every|each|any|always", "都|全|每|各|所有|总"),
    "some": ("some|sometimes", "有些|有时|有的"),
    "only": ("only", "只|仅"),
    "least": ("least", "至少|最少"),
    "most": ("most", "至多|最"),
    "less": ("less|fewer", "少于|低于"),
    "more": ("more", "更"),
}
_TURN = re.compile(
    "|".join(f"(?P<{kind}>\\b(?:{english})\\b|{chinese})" for kind, (english, chinese) in _TURNS.items()), re.IGNORECASE
)


@dataclass(frozen=True)
class Evidence:
    """Where something is said.

    Args:
        passage: its number among those found, from 1.
        source, start, end: the document, and the characters of its text.
    """

    passage: int
    source: str
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """A sentence of a reply.

    Args:
        start, end: its characters in the reply.
        supported: the evidence says it; if false, the evidence is about it, or there is none.
        evidence: sentences of passages, those of the best passage first.
        score: the share of its words that the best evidence holds, 0…1.
    """

    start: int
    end: int
    supported: bool = False
    evidence: tuple[Evidence, ...] = ()
    score: float = 0.0

    @property
    def passages(self) -> tuple[int, ...]:
        """Numbers of the passages that the evidence is from, best first."""
        return tuple(dict.fromkeys(one.passage for one in self.evidence))


@dataclass(frozen=True)
class Statement:
    """A text as it is compared."""

    text: str

    @cached_property
    def words(self) -> frozenset[str]:
        """That carry meaning."""
        return frozenset(terms(self.text))

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(_NUMBER.findall(self.text))

    @cached_property
    def turns(self) -> frozenset[str | None]:
        """The kinds of words in it that turn a statement around."""
        return frozenset(match.lastgroup for match in _TURN.finditer(self.text))


def attribute(reply: str, passages: Sequence[Hit]) -> list[Sentence]:
    """Find, for each sentence of a reply, what supports it, or else what is related to it."""
    held = [_Passage(number, hit) for number, hit in enumerate(passages, 1)]
    found = []
    for start, end in sentences(reply):
        said = Statement(reply[start:end])
        if not said.words:
            continue
        compared = [one for passage in held if (one := passage.compare(said)).evidence]
        compared.sort(key=lambda one: (-one.supported, -one.score))
        best = [one for one in compared if one.supported == compared[0].supported][:MOST_CITED]
        evidence = tuple(place for one in best for place in one.evidence)
        found.append(Sentence(start, end, any(one.supported for one in best), evidence, best[0].score if best else 0.0))
    return found


@dataclass(frozen=True)
class _Compared:
    """What a passage has to say of a statement."""

    supported: bool
    evidence: tuple[Evidence, ...]
    score: float


class _Passage:
    """A passage, ready to be compared with any number of statements."""

    def __init__(self, number: int, hit: Hit):
        self._number, self._hit = number, hit
        self._heading = Statement(hit.heading)
        self._whole = Statement(f"{hit.heading}\n{hit.text}")
        self._parts: list[tuple[Span, Statement]] = [
            (span, Statement(hit.text[slice(*span)])) for span in sentences(hit.text)
        ]

    def compare(self, said: Statement) -> _Compared:
        """The sentences that hold most of its words, and whether they say it."""
        chosen = self._covering(said.words - self._heading.words, _LEAST_GAIN * len(said.words))
        together = Statement("\n".join([self._hit.heading, *(part.text for _, part in chosen)]))
        share = len(said.words & together.words) / len(said.words)
        supported = share >= SUPPORTED and said.turns <= together.turns and said.numbers <= together.numbers
        related = (
            len(said.words & self._whole.words) >= RELATED * len(said.words) and said.numbers <= self._whole.numbers
        )
        places = [(self._hit.start + start, self._hit.start + end) for (start, end), _ in chosen]
        evidence = tuple(Evidence(self._number, self._hit.source, *place) for place in sorted(places))
        return _Compared(supported, evidence if supported or related else (), share)

    def _covering(self, words: frozenset[str], least: float) -> list[tuple[Span, Statement]]:
        """The sentence with most of the words, then those that add many of the rest."""
        chosen: list[tuple[Span, Statement]] = []
        while words and self._parts:
            best = max(self._parts, key=lambda part: len(words & part[1].words))
            gain = len(words & best[1].words)
            if gain == 0 or (chosen and gain < least):
                break
            chosen.append(best)
            words -= best[1].words
        return chosen


def with_citations(reply: str, found: Sequence[Sentence]) -> str:
    """The reply with `[1]` after each supported sentence, and `[1?]` after one that passage 1 is only related to.

    >>> where = (Evidence(2, "a.md", 0, 7), Evidence(1, "b.md", 3, 9))
    >>> with_citations("A is B. C. D.", [Sentence(0, 7, True, where), Sentence(8, 10), Sentence(11, 13, False, where[1:])])
    'A is B. [2][1] C. D. [1?]'
    """
    for sentence in sorted(found, key=lambda one: -one.end):
        marks = "".join(f"[{number}{'' if sentence.supported else '?'}]" for number in sentence.passages)
        if marks:
            reply = f"{reply[: sentence.end]} {marks}{reply[sentence.end :]}"
    return reply
