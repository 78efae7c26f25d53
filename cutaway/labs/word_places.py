"""Where the words of the small language lie in a model's embedding: neighbours and analogies, by kind of word.

N words asked about, D width.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.labs.small_language import Sentence
from cutaway.lens.neighbours import neighbours
from cutaway.text.tokenizer import Tokenizer


def kinds_of(some: Sequence[Sentence]) -> dict[str, tuple[str, str]]:
    """Every verb and object with its part of speech and its trade: what should lie together."""
    kinds = {one.words[one.verb]: ("verb", one.trade) for one in some}
    return kinds | {one.words[-3]: ("object", one.trade) for one in some}


def chance(kinds: Mapping[str, tuple[str, str]]) -> float:
    """The share of words whose nearest word would be of their kind if rows said nothing."""
    all_kinds = list(kinds.values())
    return sum(all_kinds.count(kind) - 1 for kind in all_kinds) / len(kinds) / (len(kinds) - 1)


@torch.no_grad()
def places(model: Any, tokenizer: Tokenizer, kinds: Mapping[str, tuple[str, str]], when: str) -> dict[str, float]:
    """Two shares, named for `when`: words whose nearest word is of their kind, and analogies that find the plural of an
    object's kind."""
    words = list(kinds)
    ids = [tokenizer.encode(" " + word)[0] for word in words]
    rows_ND = model.embedding.weight[ids]
    near = [kinds[words[neighbours(rows_ND, at, 1)[0].id]] == kind for at, kind in enumerate(kinds.values())]
    singular = [word for word in words if word + "s" in kinds and kinds[word][0] == "object"]
    found = []
    for a, b in itertools.permutations(singular, 2):  # boat is to boats as tree is to a plural of the farm
        if kinds[a] != kinds[b]:
            answer = analogy(rows_ND, *(words.index(word) for word in (a, a + "s", b)))
            found.append(kinds[words[answer]] == kinds[b] and words[answer].endswith("s"))
    return {f"neighbours_{when}": sum(near) / len(near), f"analogies_{when}": sum(found) / len(found)}


def analogy(rows_ND: Tensor, a: int, b: int, c: int) -> int:
    """The row, none of these three, that is nearest to b - a + c."""
    asked_ND = torch.cat([rows_ND, (rows_ND[b] - rows_ND[a] + rows_ND[c])[None]])
    return next(one.id for one in neighbours(asked_ND, len(rows_ND), 4) if one.id not in (a, b, c))
