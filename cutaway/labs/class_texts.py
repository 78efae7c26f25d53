"""Texts of a few classes from a known source, so that the best possible classifier is known too.

Of the source without phrases, words are independent given the class. Where it has some, half of every text are fixed phrases of
four words, which a model of single words counts four times.

B texts, T tokens, C classes, V words, P phrases.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

C, T, WORDS, PHRASES, PHRASE = 4, 16, 48, 16, 4  # classes, tokens of a text, words, phrases, words of a phrase
V = WORDS + PHRASES * PHRASE


@dataclass(frozen=True)
class Source:
    """Where texts come from.

    Args:
        words_CV, phrases_CP: how likely each class says a word, or a phrase.
        phrases: of a text; the rest are words.
    """

    words_CV: Tensor
    phrases_CP: Tensor
    phrases: int

    def texts(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Texts, B × T, and their classes, which take turns."""
        generator = torch.Generator().manual_seed(seed)
        label_B = torch.arange(count) % C
        words = self.words_CV[label_B].multinomial(T - PHRASE * self.phrases, True, generator=generator)
        phrases = self.phrases_CP[label_B].multinomial(2, True, generator=generator)[:, : self.phrases]
        texts = []
        for own_words, own_phrases in zip(words.tolist(), phrases.tolist(), strict=True):
            begins = [WORDS + PHRASE * number for number in own_phrases]
            units = [[word] for word in own_words] + [list(range(begin, begin + PHRASE)) for begin in begins]
            order = torch.randperm(len(units), generator=generator).tolist()
            texts.append([token for place in order for token in units[place]])
        return torch.tensor(texts), label_B

    def log_likelihood(self, text_BT: Tensor) -> Tensor:
        """log p(x | y) of texts without phrases, up to a constant of the text, B × C."""
        return self.words_CV.log()[:, text_BT].sum(-1).T


def make_source(phrases: int, seed: int) -> Source:
    """A source whose classes prefer different words; `phrases` is 0 to 2."""
    generator = torch.Generator().manual_seed(seed)
    words, phrase = torch.randn(C, WORDS, generator=generator), torch.randn(C, PHRASES, generator=generator)
    return Source((0.7 * words).softmax(-1), (0.5 * phrase).softmax(-1), phrases)
