"""Needles in haystacks: random words, one of which stands behind a mark and is asked for later by the mark alone.

To answer, a model must know which word the mark stood before, however far back and wherever in the row: attention to the token
just before (a local task), and attention to a far one.

Shapes: B rows, T positions of a row.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.loss.language_modelling import IGNORED

WORDS = 16
MARK = WORDS
VOCABULARY = WORDS + 1
ASKED = 6  # times in a training row


def haystacks(B: int, T: int, seed: int) -> Iterator[Batch]:
    """Endless training rows: a needle, and the mark with its word again at `ASKED` later places, where the word is the target."""
    generator = torch.Generator().manual_seed(seed)
    positions_BT = torch.arange(T).expand(B, T)
    while True:
        ids_BT = torch.randint(WORDS, (B, T), generator=generator)
        places = torch.rand(B, T - 1 - ASKED, generator=generator).argsort(1)[:, : ASKED + 1].sort(1).values
        places += torch.arange(ASKED + 1)  # room for a word between two marks
        words_B1 = ids_BT.gather(1, places[:, :1] + 1)
        ids_BT.scatter_(1, places, MARK)
        ids_BT.scatter_(1, places + 1, words_B1.expand(B, ASKED + 1))
        targets_BT = torch.full((B, T), IGNORED)
        targets_BT.scatter_(1, places[:, 1:], words_B1.expand(B, ASKED))
        yield Batch(ids_BT, targets_BT, positions_BT, torch.ones_like(ids_BT))


def needle(B: int, T: int, depth: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of T words that end with the mark, and the words that it asks for.

    Args:
        depth: where the needle stands, 0 for the beginning and 1 for just before the question.
    """
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(WORDS, (B, T), generator=generator)
    at = round(depth * (T - 4))
    ids_BT[:, at] = ids_BT[:, -1] = MARK
    return ids_BT, ids_BT[:, at + 1]


@torch.inference_mode()
def share_found(model: Any, B: int, T: int, depth: float, seed: int) -> float:
    """Share of B needles that a model finds; a guess among the words finds one in `WORDS`."""
    ids_BT, words_B = needle(B, T, depth, seed)
    return (model.logits(model(ids_BT)[:, -1]).argmax(-1) == words_B).float().mean().item()
