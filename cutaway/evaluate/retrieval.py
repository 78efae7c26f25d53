"""How good a ranking is. `ranking` holds ids, best first; `relevance` maps an id to its grade (0 or less: not relevant)."""

from collections.abc import Mapping, Sequence
from math import log2
from statistics import mean
from typing import TypeVar

Id = TypeVar("Id", int, str)


def ndcg(ranking: Sequence[Id], relevance: Mapping[Id, float], k: int = 10) -> float:
    """Discounted cumulative gain of the first k, over the best that is possible (Järvelin and Kekäläinen 2002, linear gain).

    >>> ndcg(["a", "b"], {"b": 1})
    0.6309297535714575
    """
    gains = [max(relevance.get(one, 0), 0) for one in ranking[:k]]
    ideal = sorted((grade for grade in relevance.values() if grade > 0), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def recall(ranking: Sequence[Id], relevance: Mapping[Id, float], k: int = 10) -> float:
    """The share of the relevant ids that are among the first k."""
    wanted = _relevant(relevance)
    return len(wanted & set(ranking[:k])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranking: Sequence[Id], relevance: Mapping[Id, float]) -> float:
    """1 / the rank of the first relevant id; 0 when there is none. Its mean over questions is the MRR."""
    wanted = _relevant(relevance)
    return next((1 / rank for rank, one in enumerate(ranking, 1) if one in wanted), 0.0)


def average_precision(ranking: Sequence[Id], relevance: Mapping[Id, float]) -> float:
    """The mean over the relevant ids of the precision where each stands, 0 for one not found. Its mean is the MAP."""
    wanted = _relevant(relevance)
    found, total = 0, 0.0
    for rank, one in enumerate(ranking, 1):
        if one in wanted:
            found += 1
            total += found / rank
    return total / len(wanted) if wanted else 0.0


def summary(
    rankings: Mapping[str, Sequence[Id]], relevance: Mapping[str, Mapping[Id, float]], k: int = 10
) -> dict[str, float]:
    """The means over the questions that have a relevant id; a question without a ranking counts as 0."""
    asked = [(rankings.get(question, []), grades) for question, grades in relevance.items() if _relevant(grades)]
    if not asked:
        return {}
    return {
        f"ndcg@{k}": mean(ndcg(ranking, grades, k) for ranking, grades in asked),
        f"recall@{k}": mean(recall(ranking, grades, k) for ranking, grades in asked),
        "mrr": mean(reciprocal_rank(ranking, grades) for ranking, grades in asked),
        "map": mean(average_precision(ranking, grades) for ranking, grades in asked),
    }


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _relevant(relevance: Mapping[Id, float]) -> set[Id]:
    return {one for one, grade in relevance.items() if grade > 0}
