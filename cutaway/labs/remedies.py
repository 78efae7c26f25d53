"""Remedies of overfitting on the small language: what a run does differently, and the changed copies that some of them read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cutaway.data.augment import Synonyms, Translate, back_translate, drop_words

COPIES, SHARE = 8, 0.5  # changed texts of each sentence, share of words changed
SYNONYMS = (
    "sailor diver|farmer miller|cook baker|smith mason|crew friend guest stranger|market harbour bridge tower|"
    "boat raft ship|garden tree vine|carrot onion egg|chair door wheel"
)
ADJECTIVES = ("old", "small", "red", "heavy")
VERBS = ("anchor load", "plant weed", "boil salt", "paint mend")


@dataclass(frozen=True)
class Remedy:
    """What one run does differently.

    Args:
        optim: settings of the optimiser.
        dropout: of the model.
        patience: evaluations without a better loss until it stops; the best weights are then restored. None: to the end.
        text: from the sentences to what is read instead.
    """

    optim: Mapping[str, float] | None = None
    dropout: float = 0.0
    patience: int | None = None
    text: Callable[[list[str], np.random.Generator], list[str]] | None = None


def synonyms() -> dict[str, list[str]]:
    """For each word those of its class, in the same form; a user would bring such a table."""
    groups = [group.split() for group in SYNONYMS.split("|")]
    groups += [[word + "s" for word in group] for group in groups]
    groups += [[word + ending for word in pair.split()] for pair in VERBS for ending in ("", "s", "ed")]
    return {
        word: [other for other in group if other != word] for group in [*groups, list(ADJECTIVES)] for word in group
    }


def with_synonyms(texts: list[str], draw: np.random.Generator) -> list[str]:
    """The texts, and copies with half of the words replaced."""
    table = Synonyms(synonyms())
    return texts + [table.replace(text, SHARE, draw) for _ in range(COPIES) for text in texts]


def with_words_dropped(texts: list[str], draw: np.random.Generator) -> list[str]:
    """The texts, and copies with a tenth of the words left out."""
    return texts + [drop_words(text, 0.1, draw) for _ in range(COPIES) for text in texts]


REMEDIES = {
    "none": Remedy(),
    "weight decay": Remedy(optim={"weight_decay": 6.0}),
    "L2": Remedy(optim={"l2": 0.03}),
    "L1": Remedy(optim={"l1": 0.3}),
    "dropout": Remedy(dropout=0.3),
    "early stopping": Remedy(patience=2),
    "synonyms": Remedy(text=with_synonyms),
    "words dropped": Remedy(text=with_words_dropped),
}


def with_translations(there: Translate, back: Translate) -> Remedy:
    """The texts, and one copy of each, translated there and back."""
    return Remedy(text=lambda texts, draw: texts + back_translate(texts, there, back))
