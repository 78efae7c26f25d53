"""Text in eight small languages. In each, a word names the one that follows, but for a little noise; the first token of a row
says which language it is. All use the same words, so that a word does not tell its language, or each has words of its own.

Shapes: B rows, T positions, Z languages, V words of a language.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.loss.language_modelling import IGNORED

LANGUAGES, WORDS, LENGTH, ROWS = 8, 32, 32, 32
NOISE = 0.1  # share of words that follow no rule


@dataclass(frozen=True)
class Task:
    """Text in the languages, as much as wanted."""

    next_ZV: Tensor
    own_words: bool
    seed: int

    def batch(self, number: int) -> Batch:
        """One of the batches; numbers below 0 are held out."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + number % 500_000)
        language_B = torch.randint(LANGUAGES, (ROWS,), generator=generator)
        noise_BT = torch.randint(WORDS, (ROWS, LENGTH), generator=generator)
        kept_BT = torch.rand(ROWS, LENGTH, generator=generator) > NOISE
        words = [noise_BT[:, 0]]
        for place in range(1, LENGTH):
            words.append(torch.where(kept_BT[:, place], self.next_ZV[language_B, words[-1]], noise_BT[:, place]))
        words_BT = torch.stack(words, 1) + (WORDS * language_B[:, None] if self.own_words else 0)
        ids_BT = torch.cat([self.vocabulary - LANGUAGES + language_B[:, None], words_BT[:, :-1]], 1)
        targets_BT = words_BT.clone()
        targets_BT[:, 0] = IGNORED
        positions_BT = torch.arange(LENGTH).expand(ROWS, LENGTH)
        return Batch(ids_BT, targets_BT, positions_BT, torch.ones_like(ids_BT))

    def language(self, batch: Batch) -> Tensor:
        """The language of every row, B."""
        return batch.ids_BT[:, 0] - (self.vocabulary - LANGUAGES)

    @property
    def vocabulary(self) -> int:
        """Words, and one token that names each language."""
        return (WORDS * LANGUAGES if self.own_words else WORDS) + LANGUAGES


def make_task(seed: int, own_words: bool = False) -> Task:
    """Languages with random rules."""
    generator = torch.Generator().manual_seed(seed)
    return Task(torch.stack([torch.randperm(WORDS, generator=generator) for _ in range(LANGUAGES)]), own_words, seed)


def floor() -> float:
    """The loss of one who knows the rules, in nats per word."""
    right, wrong = 1 - NOISE + NOISE / WORDS, NOISE / WORDS
    return -right * math.log(right) - (WORDS - 1) * wrong * math.log(wrong)
