"""Word and character error rate of transcripts: edits that turn what was written into what was said, over what was said.

Case and punctuation are not heard and do not count, nor how a character is composed.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from cutaway.data.units import words


def error_rates(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`wer` and `cer` of a whole set, in percent; words that were never said can bring them above 100.

    Edits and lengths are summed before they are divided, so that a long sound counts for more than a short one. A Chinese or
    Japanese character is a word, as in ROUGE; characters are those of the words, without the spaces between them.

    >>> error_rates(["Two cat."], ["two cats"])
    {'wer': 50.0, 'cer': 14.285714285714286}
    """
    pairs = [(_heard(text), _heard(reference)) for text, reference in zip(texts, references, strict=True)]
    return {
        "wer": _rate(pairs),
        "cer": _rate([("".join(text), "".join(reference)) for text, reference in pairs]),
    }


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest insertions, deletions and substitutions that make b of a (Levenshtein 1966).

    A column of the table of distances is two numbers, a bit for each place of a: where the distance grows downwards, and where it
    falls. Each column follows from the one before by a few operations on whole numbers (Myers 1999, in Hyyrö's form of 2003).

    >>> edit_distance("kitten", "sitting")
    3
    """
    if not a:
        return len(b)
    places: defaultdict[str, int] = defaultdict(int)
    for i, symbol in enumerate(a):
        places[symbol] |= 1 << i
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    grows, falls, distance = every, 0, len(a)
    for symbol in b:
        same = places.get(symbol, 0)
        diagonal = (((same & grows) + grows) ^ grows) | same | falls
        right_grows, right_falls = falls | (every & ~(diagonal | grows)), grows & diagonal
        distance += bool(right_grows & last) - bool(right_falls & last)
        right_grows, right_falls = (right_grows << 1) | 1, right_falls << 1
        grows = every & (right_falls | ~(diagonal | right_grows))
        falls = every & right_grows & diagonal
    return distance


def _heard(text: str) -> list[str]:
    return words(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))


def _rate(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> float:
    edits = sum(edit_distance(text, reference) for text, reference in pairs)
    return 100 * edits / max(1, sum(len(reference) for _, reference in pairs))
