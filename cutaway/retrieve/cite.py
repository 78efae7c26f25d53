"""Which passage a sentence of a reply rests on.

A sentence counts as supported by a passage when the passage holds most of its words that carry meaning, every number in it, and
a sentence that means nearly the same. That finds what was made up or taken from elsewhere; it does not prove a
sentence true: one that uses the passage's words to say the opposite passes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import coverage, is_chinese, terms
from cutaway.text.sentences import sentences

# On 160 XQuAD questions put as statements with their answers: 8.7 % not found in their own paragraph, 1.3 % found in another
# one of the same article (docs/log.md).
LEAST_COVERAGE = 0.6
LEAST_COSINE = 0.4
MOST_CITED = 2
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a reply.

    Args:
        start, end: its characters in the reply.
        passages: numbers (from 1) of the passages that support it, best first; empty when none does.
        score: how well the best passage supports it, 0…1.
    """

    start: int
    end: int
    passages: tuple[int, ...]
    score: float

    @property
    def supported(self) -> bool:
        return bool(self.passages)


def attribute(reply: str, passages: Sequence[str], embedder: Embedder) -> list[Sentence]:
    """Find, for each sentence of a reply, the passages that support it; numbers never leave 1…len(passages)."""
    spans = [(start, end) for start, end in sentences(reply) if terms(reply[start:end])]
    if not spans or not passages:
        return [Sentence(start, end, (), 0.0) for start, end in spans]
    parts = [[text[a:b] for a, b in sentences(text)] or [text] for text in passages]
    vectors = embedder.encode([reply[a:b] for a, b in spans] + [part for found in parts for part in found])
    said, held = vectors[: len(spans)], vectors[len(spans) :].split([len(found) for found in parts])
    words = [terms(text) for text in passages]
    found = []
    for (start, end), vector_D in zip(spans, said, strict=True):
        text = reply[start:end]
        scores = {
            number: support(text, passage, words[number - 1], vector_D, held[number - 1])
            for number, passage in enumerate(passages, 1)
        }
        best = sorted((n for n, score in scores.items() if score > 0), key=lambda n: -scores[n])[:MOST_CITED]
        found.append(Sentence(start, end, tuple(best), max(scores.values())))
    return found


def support(sentence: str, passage: str, words: Sequence[str], sentence_D: Tensor, passage_ND: Tensor) -> float:
    """The mean of word coverage and the nearest sentence's cosine; 0 where one is too low or a number is not there.

    Chinese is judged by words alone: the packaged encoder reads English.
    """
    if not set(_NUMBER.findall(sentence)) <= set(_NUMBER.findall(passage)):
        return 0.0
    shared = coverage(terms(sentence), words)
    if shared < LEAST_COVERAGE:
        return 0.0
    if is_chinese(sentence):
        return shared
    cosine = float((passage_ND @ sentence_D).max())
    return (shared + cosine) / 2 if cosine >= LEAST_COSINE else 0.0


def with_citations(reply: str, found: Sequence[Sentence]) -> str:
    """The reply with `[1]` after each supported sentence.

    >>> with_citations("A is B. C.", [Sentence(0, 7, (2, 1), 0.9), Sentence(8, 10, (), 0.0)])
    'A is B. [2][1] C.'
    """
    for sentence in sorted(found, key=lambda one: -one.end):
        marks = "".join(f"[{number}]" for number in sentence.passages)
        if marks:
            reply = f"{reply[: sentence.end]} {marks}{reply[sentence.end :]}"
    return reply
