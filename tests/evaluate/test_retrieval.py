"""Ranking metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from cutaway.evaluate.answers import Asked, measure_answers
from cutaway.evaluate.retrieval import average_precision, ndcg, recall, reciprocal_rank, summary
from cutaway.retrieve.answer import Answer
from cutaway.retrieve.cite import Sentence
from cutaway.retrieve.index import Hit


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30).filter(any), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_equal_to_scikit_learn(grades: list[int], k: int):
    ranking, relevance = list(range(len(grades))), dict(enumerate(grades))
    scores = -np.arange(len(grades), dtype=float)[None]
    assert ndcg(ranking, relevance, k) == pytest.approx(ndcg_score(np.array([grades]), scores, k=k))
    binary = [int(grade > 0) for grade in grades]
    assert average_precision(ranking, relevance) == pytest.approx(average_precision_score(binary, scores[0]))


def test_by_hand():
    ranking, relevance = ["x", "a", "y", "b"], {"a": 1, "b": 1, "c": 1, "x": 0}
    assert recall(ranking, relevance, 2) == pytest.approx(1 / 3)
    assert reciprocal_rank(ranking, relevance) == 0.5
    assert average_precision(ranking, relevance) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert summary({"q": ranking}, {"q": relevance, "nothing relevant": {}}, k=2)["mrr"] == 0.5


def test_answers():
    hit = Hit("1", "a.md", "", "", None, 0, 1, "x")
    good = Answer("q", "A. B.", "", [Sentence(0, 2, True), Sentence(3, 5)], [1], [hit], True, False)
    refused = Answer("q", "no", "no", [], [], [hit], False, False)
    assert measure_answers([Asked(good, "a.md"), Asked(refused, "b.md"), Asked(refused, None)]) == {
        "hit_rate": 0.5,
        "unsupported_sentences": 0.5,
        "false_refusals": 0.5,
        "false_answers": 0.0,
    }
