"""The tokens whose embeddings point where a token's does. V vocabulary, D model width."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from cutaway.core.errors import RequestError


@dataclass(frozen=True)
class Neighbour:
    """A token and the cosine of the angle between its embedding and the one asked about."""

    id: int
    cosine: float


def neighbours(embedding_VD: Tensor, id: int, k: int = 10) -> list[Neighbour]:
    """The k rows nearest to row `id` by cosine, nearest first, itself left out.

    Raises:
        RequestError: no such row, or fewer than k others.
    """
    V = len(embedding_VD)
    if not 0 <= id < V:
        raise RequestError(f"outside 0 to {V - 1}", field="id", value=id)
    if not 1 <= k < V:
        raise RequestError(f"must be 1 to {V - 1}", field="k", value=k)
    unit_VD = functional.normalize(embedding_VD.detach().float(), dim=-1)
    cosines_V = unit_VD @ unit_VD[id]
    cosines_V[id] = -2.0  # below every cosine
    best = cosines_V.topk(k)
    return [
        Neighbour(int(row), float(cosine))
        for row, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
