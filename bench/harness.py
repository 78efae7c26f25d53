"""What a bench is, and how two sides are timed fairly.

A bench is a file in this folder with `def run() -> list[Row]`. Machines drift by tens of percent within minutes, so the
two sides take turns (`interleave`) and a row holds medians and their spread.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` above 1 means that ours is better, whichever way the unit points.

    Args:
        name: what is measured.
        ours, peer: medians, in `unit`; `peer` is None where nothing comparable exists.
        higher_is_better: whether more of `unit` is better (tokens/s) or less (seconds).
        goal: the least ratio that is asked for, or the value of `ours` where there is no peer; None: no goal is set.
        spread: (smallest, largest) ratio of a round, or of `ours` without a peer.
    """

    name: str
    ours: float
    peer: float | None
    peer_name: str | None
    unit: str
    higher_is_better: bool = True
    goal: float | None = None
    spread: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        if self.peer is None:
            return None
        return self.ours / self.peer if self.higher_is_better else self.peer / self.ours

    def json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio}


def interleave(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int = 5
) -> tuple[list[float], list[float]]:
    """Call the two sides in turn, `rounds` times after one warm-up each; each call returns its own figure."""
    ours(), peer()
    pairs = [(ours(), peer()) if i % 2 == 0 else (peer(), ours())[::-1] for i in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def compare(
    name: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    peer_name: str,
    unit: str,
    *,
    higher_is_better: bool = True,
    goal: float | None = None,
    rounds: int = 5,
) -> Row:
    """A row from two interleaved sides."""
    a, b = interleave(ours, peer, rounds)
    ratios = [x / y if higher_is_better else y / x for x, y in zip(a, b, strict=True)]
    medians = statistics.median(a), statistics.median(b)
    return Row(name, *medians, peer_name, unit, higher_is_better, goal, (min(ratios), max(ratios)))
