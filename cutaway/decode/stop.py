"""Stop strings over streamed text."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through until one of the stop strings appears; what may be the beginning of one waits.

    >>> stop = StopStrings(["\\n\\n"])
    >>> stop.push("a\\n"), stop.push("b"), stop.push("\\n\\nc"), stop.hit
    ('a', '\\nb', '', True)
    """

    def __init__(self, strings: Sequence[str]):
        assert all(strings), "an empty stop string stops everything"
        self._strings = list(strings)
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Add text; return what is certain to stand before any stop string."""
        if self.hit:
            return ""
        self._held += text
        found = [place for place in (self._held.find(string) for string in self._strings) if place >= 0]
        if found:
            self.hit = True
            certain, self._held = self._held[: min(found)], ""
            return certain
        keep = max((overlap(self._held, string) for string in self._strings), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def flush(self) -> str:
        """What waited, when no more text comes."""
        certain, self._held = self._held, ""
        return certain


def overlap(text: str, string: str) -> int:
    """The longest end of `text` that is a beginning of `string`."""
    return next((n for n in range(min(len(string) - 1, len(text)), 0, -1) if string.startswith(text[-n:])), 0)
