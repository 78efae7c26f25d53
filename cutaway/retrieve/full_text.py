"""Full-text search: BM25 (Robertson et al. 1995, Lucene's variant) over English stems, and Chinese characters and their pairs."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
_CJK = r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]"
_RUN = re.compile(f"{_CJK}+")
_TOKEN = re.compile(rf"{_CJK}+|[^\W_]+")
_STOP_WORDS = """
a about all also an and any are as at be been but by can could did do does for from had has have how if in into is it its may
me more most no nor not of on one or our should so some such than that the their them then there these they this those to was
we were what when where which while who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
# Cut out before characters are paired, the longest first: no pair straddles one.
_CHINESE_STOP_WORDS = """
为什么 有没有 什么 怎么 怎样 如何 哪里 哪些 哪个 哪种 多少 为何 请问 是否 可以 能否 应该 应当 吗 呢 吧 的 了 是 几 谁 会 哪
"""
_STOP_RUN = re.compile("|".join(_CHINESE_STOP_WORDS.split()))


def terms(text: str) -> list[str]:
    """What is looked up: lower-case stems of words that carry meaning; CJK characters, and pairs of neighbours.

    >>> terms("How are the gradients clipped?")
    ['gradient', 'clip']
    >>> terms("温度是什么")
    ['温', '度', '温度']
    """
    found: list[str] = []
    words: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if _RUN.match(token):
            found.extend(gram for run in _STOP_RUN.split(token) for n in (1, 2) for gram in _grams(run, n))
        elif token not in STOP_WORDS:
            words.append(token)
            found.append("")
    stems = iter(_stemmer().stemWords(words))
    return [term or next(stems) for term in found]


def is_chinese(text: str) -> bool:
    """Whether at least a third of the letters are CJK characters."""
    letters = sum(char.isalpha() for char in text)
    return bool(letters) and 3 * sum(map(len, _RUN.findall(text))) >= letters


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


def _grams(run: str, n: int) -> list[str]:
    return [run[i : i + n] for i in range(len(run) - n + 1)]


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
