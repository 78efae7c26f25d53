"""Where the sentences of a text are, in English and Chinese."""

import re
from collections.abc import Iterator

Span = tuple[int, int]
_PARAGRAPH = re.compile(r"\n\s*\n")
# A full stop ends no sentence after these, nor after a single capital (an initial).
_SHORT = ("al", "e.g", "i.e", "cf", "vs", "Fig", "Eq", "No", "Dr", "Mr", "Ms", "Mrs", "Prof", "St")
_NOT_AFTER = "".join(rf"(?<!\b{re.escape(word)}\.)" for word in _SHORT) + r"(?<!\b[A-Z]\.)"
# What follows is closed but not opened: a semicolon there ends nothing. So far is looked: a line may have a thousand semicolons.
_IN_BRACKETS = r"[^（。！？\n]{0,200}）"
_SENTENCE = re.compile(
    rf"(?<=[.!?]){_NOT_AFTER}[\"')\]”’]*\s+|(?<=[。！？])[”’」』）]*|(?<=；)(?!{_IN_BRACKETS})[”’」』]*"
)


def sentences(text: str) -> list[Span]:
    """Where the sentences of a text are; spaces around them are left out. English and Chinese endings count.

    >>> text = "One. Two (see Holtzman et al. 2020)? 三（甲；乙）；四"
    >>> [text[a:b] for a, b in sentences(text)]
    ['One.', 'Two (see Holtzman et al. 2020)?', '三（甲；乙）；', '四']
    """
    return [
        span
        for start, end in _between(_PARAGRAPH, text, 0, len(text))
        for span in _between(_SENTENCE, text, start, end)
    ]


def _between(separator: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Span]:
    for match in separator.finditer(text, start, end):
        if span := _strip(text, start, match.end()):
            yield span
        start = match.end()
    if span := _strip(text, start, end):
        yield span


def _strip(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    inner = piece.strip()
    offset = piece.find(inner)
    return (start + offset, start + offset + len(inner)) if inner else None
