"""Progress of long work: a live line with rate and time left on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

PLAIN_EVERY_S = 10.0
QUIET = os.environ.get("RANK", "0") != "0"  # of several processes that do the same, one speaks


class Progress:
    """One line that says how far the work is.

    with Progress("indexing", total=120, unit="file") as progress:
        progress.advance(1, chunks=940)

    Args:
        title: what is being done.
        total: how much there is to do, in `unit`; None when nobody knows.
        unit: what is counted.
        done: how much was already done before (a resumed run); it does not count towards the rate.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "", done: int = 0):
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._first, self._started, self._printed = done, time.monotonic(), 0.0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def advance(self, count: int = 1, **fields: object) -> None:
        """Count `count` more done; `fields` (name=value) are shown at the end of the line."""
        self.done += count
        now = time.monotonic()
        if not QUIET and now - self._printed >= (0.1 if self._live else PLAIN_EVERY_S):
            self._printed = now
            self._print(self.line(**fields))

    def line(self, **fields: object) -> str:
        """The line as text."""
        elapsed = time.monotonic() - self._started
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        parts = [self.title, f"{self.done}/{self.total} {self.unit}" if self.total else f"{self.done} {self.unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g} {self.unit}/s")
            if self.total:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join([*parts, *(f"{name} {value}" for name, value in fields.items())])

    def say(self, text: str) -> None:
        """Print a line that stays, above the live one."""
        if QUIET:
            return
        self._clear()
        print(text, file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, where: TracebackType | None
    ) -> None:
        self._clear()
        if kind is None and not QUIET:
            print(
                f"{self.title}: {self.done} {self.unit} in {duration(time.monotonic() - self._started)}",
                file=sys.stderr,
            )

    def _print(self, line: str) -> None:
        if self._live:
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._live:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(4.26), duration(75), duration(7384)
    ('4.3 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say that a step began, and how long it took."""
    started = time.monotonic()
    if not QUIET:
        print(f"{title} …", file=sys.stderr, flush=True)
    yield
    if not QUIET:
        print(f"{title}: {duration(time.monotonic() - started)}", file=sys.stderr, flush=True)
