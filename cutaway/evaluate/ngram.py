"""How well an n-gram model predicts a text, in the unit of the neural models: the tokens that `perplexity` scores are scored."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cutaway.core.errors import NothingSupervisedError
from cutaway.data.examples import Example
from cutaway.evaluate.perplexity import Perplexity
from cutaway.models.ngram import NGram
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class NGramReport:
    """What an n-gram model made of a text.

    Args:
        matched: how many tokens end a longest seen n-gram of each order, from 0 (an unseen token) to the model's.
    """

    perplexity: Perplexity
    matched: tuple[int, ...]

    @property
    def unseen(self) -> float:
        """The share of tokens whose whole n-gram training did not see."""
        return 1 - self.matched[-1] / self.perplexity.tokens


def ngram_perplexity(model: NGram, tokenizer: Tokenizer, examples: Iterable[Example]) -> NGramReport:
    """Score the learned tokens of `examples`, the first of each and special tokens apart (they are read).

    Raises:
        NothingSupervisedError: there is nothing to score.
    """
    special = np.array(sorted(tokenizer.special.values()), dtype=np.int64)
    seen_as = np.zeros(tokenizer.vocab_size, np.int64)  # occurrences of every token
    matched = np.zeros(model.config.order + 1, np.int64)
    nats = 0.0
    for example in examples:
        scored = example.learned & ~np.isin(example.ids, special)
        scored[:1] = False
        nats -= float(model.score(example.ids)[scored].sum())
        matched += np.bincount(model.matched(example.ids)[scored], minlength=len(matched))
        seen_as += np.bincount(example.ids[scored], minlength=len(seen_as))
    if not seen_as.any():
        raise NothingSupervisedError("holds no token to score", field="text")
    n_bytes = sum(int(seen_as[id]) * len(tokenizer.token_bytes(int(id))) for id in np.flatnonzero(seen_as))
    return NGramReport(Perplexity(int(seen_as.sum()), n_bytes, nats), tuple(matched.tolist()))
