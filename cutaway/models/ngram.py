"""Interpolated Kneser-Ney n-grams over token ids, counted and scored with sorted arrays.

With h a context of n−1 tokens and h′ the same without its first (Chen & Goodman 1998, TR-10-98, section 2.7, interpolated, and
with the three discounts of its modified form):

    P(w | h) = (c(h w) − D(c(h w))) / Σ_v c(h v)  +  γ(h) P(w | h′),     γ(h) = Σ_v D(c(h v)) / Σ_v c(h v)

c is the number of occurrences at the highest order and, below it, the number of different tokens seen before h w. The
recursion ends in the uniform distribution, so that every token has some probability. A document begins with order − 1 start
symbols (id V), which are read and never predicted. Deviation from KenLM and SRILM: an n-gram that begins with one is counted like
any other below the highest order.

An n-gram is stored as its key, (row of its first n−1 tokens in the order below) · (V + 1) + last token. The keys of an order
are sorted, so that the n-grams of one context lie together and `searchsorted` finds one. `ngram_counts` makes them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from safetensors.numpy import save_file

from cutaway.core.config import Config, make_config
from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.core.files import new_folder, write_text
from cutaway.models.huggingface import read_safetensors
from cutaway.models.ngram_counts import count_ngrams
from cutaway.text.tokenizer import Tokenizer

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none (too little text, or too few kinds of token); KenLM's."""

_FILE = "ngrams.safetensors"
_ABSENT = -1  # the row of an n-gram that was not seen


class NGramConfig(Config):
    """The shape of an n-gram model."""

    model_type: Literal["ngram"] = "ngram"
    vocab_size: int = Field(gt=0)
    order: int = Field(5, ge=1, le=20, description="n: tokens of the longest n-grams")
    discounts: Literal[1, 3] = Field(
        3, description="3: one each for counts of 1, 2 and more (modified); 1: one for all"
    )


class Level:
    """All n-grams of one order.

    Args:
        keys, counts: see the top of this file; sorted by key.
        contexts: how many n-grams the order below has.
        base: V + 1.
        discounts: D(1), D(2), D(3 and more).

    `probability` holds (c − D) / Σ c of every n-gram and `backoff` γ of every context. Both have one more entry, 0 and 1, which
    the row −1 finds: an n-gram that was not seen adds nothing, and a context that was not seen leaves the order below as it is.
    `starts[c]` is the first row of context c.
    """

    def __init__(self, keys: np.ndarray, counts: np.ndarray, contexts: int, base: int, discounts: Sequence[float]):
        self.keys, self.counts = keys, counts
        context = keys // base
        removed = np.array([0.0, *discounts])[np.minimum(counts, 3)]
        total = np.bincount(context, counts, contexts)
        backoff = np.divide(np.bincount(context, removed, contexts), total, out=np.ones(contexts), where=total > 0)
        rest = np.divide(counts - removed, total[context], out=np.zeros(len(keys)), where=counts > 0)
        self.probability, self.backoff = np.append(rest, 0.0), np.append(backoff, 1.0)
        self.starts = np.searchsorted(context, np.arange(contexts + 1))

    def find(self, context: np.ndarray, ids: np.ndarray, base: int) -> np.ndarray:
        """Rows of the n-grams that go on from `context` (rows of the order below) with `ids`; −1 for those not seen."""
        wanted = context * base + ids  # negative, and so never found, after a context that was not seen
        row = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[row] == wanted, row, _ABSENT)


class NGram:
    """A trained n-gram model: `fit` makes one from documents, `NGram.load` from a folder.

    Args:
        counted: keys and counts of every order, from 1 on.
    """

    def __init__(self, config: NGramConfig, counted: Sequence[tuple[np.ndarray, np.ndarray]]):
        self.config, self.base = config, config.vocab_size + 1
        sizes = [1, *(len(keys) for keys, _ in counted)]
        self.levels = [
            Level(keys, counts, contexts, self.base, discounts(counts, config.discounts))
            for (keys, counts), contexts in zip(counted, sizes[:-1], strict=True)
        ]

    def score(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The natural logarithm of the probability of every token of a document, given all before it."""
        return self._score(self._after_start(ids))

    def matched(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Per token of a document, the order of the longest n-gram ending in it that training saw; 0: an unseen token."""
        rows = np.stack(self._rows(self._after_start(ids))[1:])[:, self.config.order :]
        return (rows != _ABSENT).sum(0)  # every shorter n-gram inside one that was seen was seen

    def logprob(self, context: Sequence[int], id: int) -> float:
        """log P(id | context); `context` is the document up to there, of which the last order − 1 tokens count."""
        return float(self._score(np.append(self._history(context), id))[0])

    def logprobs(self, context: Sequence[int]) -> np.ndarray:
        """log P(· | context) of the whole vocabulary."""
        probability = np.full(self.base, 1 / self.config.vocab_size)
        for level, rows in zip(self.levels, self._rows(self._history(context)), strict=False):
            seen = rows[-1]
            if seen == _ABSENT:
                break  # what goes on from a longer context was not seen either
            probability *= level.backoff[seen]
            followers = slice(level.starts[seen], level.starts[seen + 1])
            probability[level.keys[followers] % self.base] += level.probability[followers]
        return np.log(probability[:-1])

    def sample(
        self, context: Sequence[int], count: int, rng: np.random.Generator, ends: frozenset[int] = frozenset()
    ) -> list[int]:
        """Up to `count` tokens drawn after `context`; one of `ends` is the last."""
        drawn: list[int] = []
        while len(drawn) < count and not (drawn and drawn[-1] in ends):
            probability = np.exp(self.logprobs([*context, *drawn]))
            drawn.append(int(rng.choice(self.config.vocab_size, p=probability / probability.sum())))
        return drawn

    def save(self, folder: Path, tokenizer: Tokenizer | None = None) -> None:
        """Write a folder, whole or not at all: config.json, the counts, and the tokeniser whose ids they are of."""
        with new_folder(folder) as temporary:
            write_text(temporary / "config.json", self.config.model_dump_json(indent=2))
            arrays = {f"keys.{n}": level.keys for n, level in enumerate(self.levels, 1)}
            arrays |= {f"counts.{n}": level.counts for n, level in enumerate(self.levels, 1)}
            save_file(arrays, temporary / _FILE)
            if tokenizer is not None:
                tokenizer.save(temporary)

    @classmethod
    def load(cls, folder: Path) -> "NGram":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or does not hold what it should; which and why.
        """
        config = _read_config(folder)
        arrays = {name: tensor.numpy() for name, tensor in read_safetensors(folder / _FILE)}
        wanted = {f"{kind}.{n}" for kind in ("keys", "counts") for n in range(1, config.order + 1)}
        if arrays.keys() != wanted:
            names = ", ".join(sorted(arrays.keys() ^ wanted))
            raise CheckpointError(f"missing or unexpected: {names}", field="model", value=str(folder / _FILE))
        counted = [(arrays[f"keys.{n}"], arrays[f"counts.{n}"]) for n in range(1, config.order + 1)]
        contexts = 1
        for n, (keys, counts) in enumerate(counted, 1):
            if not _are_ngrams(keys, counts, contexts * (config.vocab_size + 1)):
                raise CheckpointError(f"the {n}-grams are corrupt", field="model", value=str(folder / _FILE))
            contexts = len(keys)
        return cls(config, counted)

    def _after_start(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.concatenate([self._history([]), np.asarray(ids, np.int64)])

    def _history(self, context: Sequence[int]) -> np.ndarray:
        """The order − 1 tokens before the next one; start symbols stand before the document."""
        n = self.config.order - 1
        recent = list(context[max(len(context) - n, 0) :])
        return np.array([self.config.vocab_size] * (n - len(recent)) + recent, np.int64)

    def _rows(self, tokens: np.ndarray) -> list[np.ndarray]:
        """Of every order from 0 on, the row of the n-gram that ends at every place from before the first token to after the
        last."""
        assert ((tokens >= 0) & (tokens < self.base)).all(), "ids are below vocab_size"
        rows = [np.zeros(len(tokens) + 1, np.int64)]
        for level in self.levels:
            rows.append(np.concatenate([[_ABSENT], level.find(rows[-1][:-1], tokens, self.base)]))
        return rows

    def _score(self, tokens: np.ndarray) -> np.ndarray:
        """log P of the tokens after the first order − 1."""
        rows = self._rows(tokens)
        probability = np.full(len(tokens), 1 / self.config.vocab_size)
        for level, context, row in zip(self.levels, rows[:-1], rows[1:], strict=True):
            probability = level.probability[row[1:]] + level.backoff[context[:-1]] * probability
        return np.log(probability[self.config.order - 1 :])


def fit(documents: Iterable[Sequence[int] | np.ndarray], config: NGramConfig) -> NGram:
    """Count the n-grams of documents (token ids below `vocab_size`); none goes over the end of a document.

    Raises:
        DataError: there is no token.
    """
    return NGram(config, list(count_ngrams(documents, config.vocab_size, config.order)))


def discounts(counts: np.ndarray, number: Literal[1, 3]) -> tuple[float, float, float]:
    """D(1), D(2), D(3 and more) of an order, estimated from how many n-grams have a count of 1, 2, 3 and 4.

    Chen & Goodman 1998, equation 26, and for one discount section 2.6 (Ney, Essen & Kneser 1994).
    """
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if number == 1 and n1 and n2:
        return (n1 / (n1 + 2 * n2),) * 3
    if number == 3 and n1 and n2 and n3 and n4:
        Y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3)
        if min(found) > 0:
            return found
    return FALLBACK


def _are_ngrams(keys: np.ndarray, counts: np.ndarray, end: int) -> bool:
    """Whether arrays from a file can be an order's keys and counts."""
    integers = keys.dtype == counts.dtype == np.int64 and keys.ndim == counts.ndim == 1
    if not integers or len(keys) != len(counts) or not len(keys):
        return False
    return bool(keys[0] >= 0 and keys[-1] < end and (np.diff(keys) > 0).all() and (counts >= 0).all())


def _read_config(folder: Path) -> NGramConfig:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError("holds no config.json", field="model", value=str(folder)) from None
    except (OSError, ValueError) as err:
        raise CheckpointError(f"cannot be read: {err}", field="config.json", value=str(path)) from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "ngram":
        raise CheckpointError(
            "is no n-gram model", field="model_type", value=kind, hint="cutaway ngram train … --out makes one"
        )
    try:
        return make_config(NGramConfig, values)
    except ConfigError as err:
        raise CheckpointError(str(err), field="config.json", value=str(path)) from None
