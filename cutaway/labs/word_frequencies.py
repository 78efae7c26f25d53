"""Texts as word ids, real and drawn by Zipf's law, and how frequent their words are."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

HELD_OUT = 0.1  # share of a text, at its end
NAMED = 0.5  # share of generated words that the word before decides


@dataclass(frozen=True)
class Text:
    """A text as word ids, and how many words there are."""

    ids: np.ndarray
    vocabulary: int

    @property
    def training(self) -> np.ndarray:
        """What is learned from."""
        return self.ids[: -int(HELD_OUT * len(self.ids))]

    @property
    def held_out(self) -> np.ndarray:
        """What is not."""
        return self.ids[-int(HELD_OUT * len(self.ids)) :]

    @property
    def counts(self) -> np.ndarray:
        """How often each word occurs in training."""
        return np.bincount(self.training, minlength=self.vocabulary)


def reference_text() -> Text:
    """The Python reference: words and signs, numbered by falling frequency."""
    from pydoc_data.topics import topics

    words = re.findall(r"[a-z]+|[^\sa-z]", "\n".join(text for _, text in sorted(topics.items())).lower())
    id_of = {word: id for id, (word, _) in enumerate(Counter(words).most_common())}
    return Text(np.array([id_of[word] for word in words]), len(id_of))


def zipf_text(vocabulary: int, exponent: float, seed: int, length: int = 200_000) -> Text:
    """Words drawn by rank to the power of −`exponent`, but that every word has one which follows it half of the time."""
    generator = np.random.default_rng(seed)
    below = np.cumsum(np.arange(1, vocabulary + 1) ** -exponent)

    def drawn(count: int) -> np.ndarray:
        return np.searchsorted(below, generator.random(count) * below[-1])

    following, rows = drawn(vocabulary), 1000
    words = [drawn(rows)]
    for _ in range(length // rows - 1):
        words.append(np.where(generator.random(rows) < NAMED, following[words[-1]], drawn(rows)))
    return Text(np.stack(words, 1).ravel(), vocabulary)


def zipf_fit(text: Text) -> tuple[float, float, list[int], list[float]]:
    """The exponent of frequency by rank, the R² of the line in logarithms, and the points, evenly spaced in them.

    The rarest ranks are left out, where many words share a count.
    """
    counts = text.counts
    frequencies = np.sort(counts)[::-1] / counts.sum()
    ranks = np.unique(np.geomspace(1, (counts >= 5).sum(), 40).astype(int))
    x, y = np.log(ranks), np.log(frequencies[ranks - 1])
    slope, offset = np.polyfit(x, y, 1)
    r2 = 1 - ((y - slope * x - offset) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return -float(slope), float(r2), ranks.tolist(), frequencies[ranks - 1].tolist()


def coverage(text: Text, share: float) -> float:
    """How much of a text its most frequent words make up; `share` of all words."""
    counts = np.sort(text.counts)[::-1]
    return float(counts[: int(share * text.vocabulary)].sum() / counts.sum())
