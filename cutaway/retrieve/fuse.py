"""Several rankings become one. A ranking is a list of ids, best first; the result is (id, score), best first."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

Id = TypeVar("Id", int, str)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Id]], k: int = 60) -> list[tuple[Id, float]]:
    """The sum of `1 / (k + rank)` over the rankings, rank from 1 (Cormack, Clarke and Büttcher 2009).

    >>> [one for one, _ in reciprocal_rank_fusion([[7, 8], [8, 9]])]
    [8, 7, 9]
    """
    fused: dict[Id, float] = defaultdict(float)
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            fused[one] += 1 / (k + rank)
    return _best_first(fused)


def weighted_fusion(scores: Sequence[Mapping[Id, float]], weights: Sequence[float]) -> list[tuple[Id, float]]:
    """The weighted sum of scores, each list scaled to 0…1 first; an id that a list lacks gets 0 from it.

    >>> weighted_fusion([{1: 3.0, 2: 1.0}, {2: 8.0, 3: 4.0}], [0.5, 0.5])
    [(1, 0.5), (2, 0.5), (3, 0.0)]
    """
    fused: dict[Id, float] = defaultdict(float)
    for each, weight in zip(scores, weights, strict=True):
        low, high = min(each.values(), default=0.0), max(each.values(), default=0.0)
        for one, score in each.items():
            fused[one] += weight * ((score - low) / (high - low) if high > low else 1.0)
    return _best_first(fused)


def _best_first(scores: Mapping[Id, float]) -> list[tuple[Id, float]]:
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
