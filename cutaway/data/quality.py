"""What tells prose from the debris of web pages: the rules of Gopher, and the shares of symbols, digits and repetitions that
they and others limit.

Source: Rae et al. (2021), Scaling Language Models: Methods, Analysis & Insights from Training Gopher, appendix A.1. Deviations,
so that the rules also read Chinese and Japanese: words are those of `data.units.words`; where these are single characters
n-grams are twice as long (a Chinese word has between one and two) and the length of words is not judged; the rule about English
stop words is left out. Shares of characters count the characters of words, not the spaces between.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import regex
from pydantic import Field

from cutaway.core.config import Config
from cutaway.data.units import unspaced

_VISIBLE, _DIGIT = regex.compile(r"\S"), regex.compile(r"\p{Nd}")
_SYMBOL = regex.compile(r"[\p{S}#]")
_BROKEN = regex.compile(r"[\uFFFD\p{Cs}\p{Cc}--[\t\n\r\f]]", regex.V1)
_BULLETS = ("•", "●", "▪", "■", "◦", "‣", "-", "*", "·")
_ELLIPSES = ("...", "…")


class GopherConfig(Config):
    """Limits for a page of the web. Lists, worked sums and code break them and may still be worth learning."""

    min_words: int = Field(50, ge=0)
    max_words: int = Field(100_000, ge=1)
    min_word_length: float = Field(3, ge=0, description="letters per word, on average")
    max_word_length: float = Field(10, ge=0)
    max_words_without_letters: float = Field(0.2, ge=0, le=1)
    max_hashes: float = Field(0.1, ge=0, description="per word; ellipses too")
    max_bullet_lines: float = Field(0.9, ge=0, le=1)
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1)
    max_repeated_lines: float = Field(0.3, ge=0, le=1)
    max_repeated_line_characters: float = Field(0.2, ge=0, le=1)
    max_top_ngram: dict[int, float] = Field({2: 0.2, 3: 0.18, 4: 0.16}, description="share of characters, by n")
    max_repeated_ngrams: dict[int, float] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}, description="share of characters, by n"
    )


def gopher_faults(text: str, words: Sequence[str], limits: GopherConfig) -> Iterator[str]:
    """The rules that a text breaks, each judged when it is asked for."""
    if len(words) < limits.min_words:
        yield "gopher: too few words"
    if len(words) > limits.max_words:
        yield "gopher: too many words"
    characters = unspaced(text)
    spaced = [word for word in words if not unspaced(word)]
    mean = sum(map(len, spaced)) / max(1, len(spaced))
    if not characters and not limits.min_word_length <= mean <= limits.max_word_length:
        yield "gopher: length of words"
    if words_without_letters(words) > limits.max_words_without_letters:
        yield "gopher: words without letters"
    if max(text.count("#"), text.count("...") + text.count("…")) > limits.max_hashes * len(words):
        yield "gopher: hashes or ellipses"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if bullet_lines(lines) > limits.max_bullet_lines:
        yield "gopher: bullet lines"
    if ellipsis_lines(lines) > limits.max_ellipsis_lines:
        yield "gopher: ellipsis lines"
    if repeated_lines(lines) > limits.max_repeated_lines:
        yield "gopher: repeated lines"
    if repeated_line_characters(lines) > limits.max_repeated_line_characters:
        yield "gopher: characters in repeated lines"
    longer = 2 if characters else 1
    for n, most in limits.max_top_ngram.items():
        if top_ngram(words, longer * n) > most:
            yield f"gopher: one {n}-gram again and again"
    for n, most in sorted(limits.max_repeated_ngrams.items()):
        share = repeated_ngrams(words, longer * n)
        if share > most:
            yield f"gopher: repeated {n}-grams"
        if share <= min(limits.max_repeated_ngrams.values()):
            break  # a longer n-gram that is repeated is made of shorter ones that are: it covers no more


def broken_characters(text: str) -> float:
    """Characters that stand for nothing, by visible ones: U+FFFD, lone surrogates, controls other than tab and line ends."""
    return _share(_BROKEN, text)


def symbols(text: str) -> float:
    """Visible characters that are symbols of Unicode (+ < | ~ $ © 😀 …), or a hash."""
    return _share(_SYMBOL, text)


def digits(text: str) -> float:
    """Visible characters that are digits, of any script."""
    return _share(_DIGIT, text)


def words_without_letters(words: Sequence[str]) -> float:
    """Words without a letter: numbers."""
    return sum(not any(map(str.isalpha, word)) for word in words) / max(1, len(words))


def bullet_lines(lines: Sequence[str]) -> float:
    """Lines that begin with a bullet."""
    return sum(line.startswith(_BULLETS) for line in lines) / max(1, len(lines))


def ellipsis_lines(lines: Sequence[str]) -> float:
    """Lines that end in an ellipsis: texts cut short, as lists of search results are."""
    return sum(line.endswith(_ELLIPSES) for line in lines) / max(1, len(lines))


def repeated_lines(lines: Sequence[str]) -> float:
    """Lines that came before in the same text."""
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_line_characters(lines: Sequence[str]) -> float:
    """Characters in lines that came before in the same text."""
    return 1 - sum(map(len, set(lines))) / sum(map(len, lines)) if lines else 0.0


def top_ngram(words: Sequence[str], n: int) -> float:
    """Characters in the n-gram that covers most, if it occurs more than once. Overlapping occurrences count once."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    top = max(counts, key=lambda gram: (counts[gram] > 1) * counts[gram] * sum(map(len, gram)), default=())
    if counts[top] < 2:
        return 0.0
    return _covered(words, n, {top})


def repeated_ngrams(words: Sequence[str], n: int) -> float:
    """Characters in n-grams that occur more than once. Overlapping occurrences count once."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    return _covered(words, n, {gram for gram, count in counts.items() if count > 1})


def _covered(words: Sequence[str], n: int, grams: set[tuple[str, ...]]) -> float:
    """The share of the words' characters that lie in an occurrence of one of the n-grams."""
    until = covered = 0
    for start in range(len(words) - n + 1):
        if tuple(words[start : start + n]) in grams:
            covered += sum(map(len, words[max(start, until) : start + n]))
            until = start + n
    return covered / max(1, sum(map(len, words)))


def _share(kind: regex.Pattern, text: str) -> float:
    return len(kind.findall(text)) / max(1, len(_VISIBLE.findall(text)))
