"""Several rankings become one. A ranking is a list of ids, best first; scores are a mapping from id to number."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

RRF_K = 60


def reciprocal_rank(
    rankings: Sequence[Sequence[int]], weights: Sequence[float] | None = None, k: int = RRF_K
) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): the sum of `weight / (k + rank)`, rank from 1.

    >>> fused = reciprocal_rank([[7, 8], [8, 9]])
    >>> max(fused, key=fused.get)
    8
    """
    fused: dict[int, float] = defaultdict(float)
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, one in enumerate(ranking, 1):
            fused[one] += weight / (k + rank)
    return dict(fused)


def weighted(scores: Sequence[Mapping[int, float]], weights: Sequence[float]) -> dict[int, float]:
    """The weighted sum of scores, each list scaled to 0…1 first; an id that a list lacks gets 0 from it.

    >>> weighted([{1: 3.0, 2: 1.0}, {2: 8.0, 3: 4.0}], [0.5, 0.5])
    {1: 0.5, 2: 0.5, 3: 0.0}
    """
    fused: dict[int, float] = defaultdict(float)
    for each, weight in zip(scores, weights, strict=True):
        low, high = min(each.values(), default=0.0), max(each.values(), default=0.0)
        for one, score in each.items():
            fused[one] += weight * ((score - low) / (high - low) if high > low else 1.0)
    return dict(fused)


def best(scores: Mapping[int, float], n: int) -> list[int]:
    """The `n` ids of highest score, best first; ties in order of id."""
    return sorted(scores, key=lambda one: (-scores[one], one))[:n]
