"""Full-text search: BM25 (Robertson et al. 1995, Lucene's variant) over English stems and Chinese character pairs."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
_TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]+|[^\W_]+")
_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]")
_STOP_WORDS = """
a about all also an and any are as at be been but by can could did do does for from had has have how if in into is it its may
me more most no nor not of on one or our should so some such than that the their them then there these they this those to was
we were what when where which while who why will with would you your
什么 怎么 如何 为什 为何 哪些 哪个 多少 是什 么是 怎样 吗 呢 的 了 是 在 和 请问 有什 有哪 会怎 谁 几
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """What is looked up: lower-case stems of words that carry meaning, and pairs of neighbouring CJK characters.

    >>> terms("How are the gradients clipped?")
    ['gradient', 'clip']
    >>> terms("温度是什么")
    ['温度', '度是']
    """
    found: list[str] = []
    words: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if _CJK.match(token):
            pairs = [token[i : i + 2] for i in range(len(token) - 1)] or [token]
            found.extend(pair for pair in pairs if pair not in STOP_WORDS)
        elif token not in STOP_WORDS:
            words.append(token)
            found.append("")
    stems = iter(_stemmer().stemWords(words))
    return [term or next(stems) for term in found]


def is_chinese(text: str) -> bool:
    """Whether at least a third of the letters are CJK characters."""
    letters = sum(char.isalpha() for char in text)
    return bool(letters) and 3 * len(_CJK.findall(text)) >= letters


def coverage(query: Sequence[str], passage: Sequence[str]) -> float:
    """The share of the query's distinct terms that the passage holds, 0…1; 0 for a query without terms.

    >>> coverage(["temperatur", "token"], ["token", "token"])
    0.5
    """
    wanted = set(query)
    return len(wanted & set(passage)) / len(wanted) if wanted else 0.0


class FullText:
    """BM25 over texts in memory; passages are known by their position in `texts`."""

    def __init__(self, texts: Sequence[str]):
        import bm25s

        self._length = len(texts)
        self._vocabulary: dict[str, int] = {}
        ids = [[self._vocabulary.setdefault(term, len(self._vocabulary)) for term in terms(text)] for text in texts]
        self._bm25: Any = None
        if self._vocabulary:
            self._bm25 = bm25s.BM25(k1=K1, b=B)
            self._bm25.index((ids, self._vocabulary), show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """The BM25 score of every passage; 0 where no term is shared."""
        known = [self._vocabulary[term] for term in terms(query) if term in self._vocabulary]
        if not known:
            return np.zeros(self._length, np.float32)
        return self._bm25.get_scores_from_ids(known)

    def search(self, query: str, k: int, allowed: NDArray[np.bool_] | None = None) -> list[tuple[float, int]]:
        """The `k` best passages that share a term with the query, best first, as (score, passage)."""
        scores = self.scores(query)
        if allowed is not None:
            scores = np.where(allowed, scores, 0)
        k = min(k, self._length)
        top = np.argpartition(-scores, k - 1)[:k] if k else np.zeros(0, np.int64)
        return [(float(scores[i]), int(i)) for i in top[np.lexsort((top, -scores[top]))] if scores[i] > 0]


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
