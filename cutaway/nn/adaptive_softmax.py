"""Adaptive softmax (Grave et al. 2017): an output head that spends its width and its time on the frequent tokens.

The tokens, by falling frequency, are cut into a shortlist and clusters. The head decides among the shortlist and the clusters; a
cluster decides among its own tokens, from a narrower projection of h the rarer they are, and only where it was chosen:

    P(w | h) = P_head(w | h)                          w in the shortlist
             = P_head(cluster i | h) P_i(w | h)       w in cluster i, whose width is D / div_value ** i

Shapes: N positions, D model width, V vocabulary, C shortlist and clusters.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError

_CANDIDATES = 128  # ranks at which a cluster may end


class AdaptiveSoftmaxConfig(Config):
    """How the vocabulary is cut; `plan_clusters` makes one from token counts."""

    cutoffs: tuple[int, ...] = Field(min_length=1, description="ranks at which the clusters begin, e.g. (2000, 10000)")
    div_value: float = Field(4.0, ge=1, description="how many times narrower each cluster is than the one before")
    order: tuple[int, ...] | None = Field(None, description="token ids by falling frequency; None: 0, 1, 2, …")

    @model_validator(mode="after")
    def _increasing(self) -> "AdaptiveSoftmaxConfig":
        if any(before >= after for before, after in pairwise((0, *self.cutoffs))):
            raise ValueError(f"cutoffs {self.cutoffs} must be above 0 and increase")
        return self


class AdaptiveSoftmax(nn.Module):
    """The head, in the place of a linear layer from D to V.

    Parameters are named as in `torch.nn.AdaptiveLogSoftmaxWithLoss`.

    Raises:
        ConfigError: cutoffs beyond the vocabulary, an order that is not one of all ids, or a cluster without width.
    """

    def __init__(self, D: int, V: int, config: AdaptiveSoftmaxConfig):
        super().__init__()
        _check(D, V, config)
        self.edges = (*config.cutoffs, V)
        widths = [cluster_width(D, number, config.div_value) for number in range(1, len(self.edges))]
        self.head = nn.Linear(D, self.edges[0] + len(widths), bias=False)
        self.tail = nn.ModuleList(
            nn.Sequential(nn.Linear(D, width, bias=False), nn.Linear(width, end - start, bias=False))
            for width, (start, end) in zip(widths, pairwise(self.edges), strict=True)
        )
        # Made from the configuration and no part of a checkpoint, so neither a parameter nor on a "meta" device.
        order_V = torch.tensor(config.order or range(V), device="cpu")
        self.rank_V = torch.empty_like(order_V).scatter_(0, order_V, torch.arange(V, device="cpu"))

    def loss(self, h_ND: Tensor, targets_N: Tensor) -> Tensor:
        """−log P(target | h), summed over the positions, without the logits of the clusters that are not the target's."""
        rank_N = self._ranks(h_ND.device)[targets_N]
        cluster_N = torch.bucketize(rank_N, torch.tensor(self.edges[:-1], device=h_ND.device), right=True)
        chosen_N = torch.where(cluster_N == 0, rank_N, self.edges[0] + cluster_N - 1)
        total = _cross_entropy(self.head(h_ND), chosen_N)
        for number, (part, start) in enumerate(zip(self.tail, self.edges, strict=False), 1):
            rows = cluster_N == number
            total = total + _cross_entropy(part(h_ND[rows]), rank_N[rows] - start)
        return total

    def forward(self, h: Tensor) -> Tensor:
        """log P(· | h) of the whole vocabulary: … × D to … × V, float32 or wider. Whoever wants logits may take them for such."""
        log_p_C = _log_softmax(self.head(h))
        shortlist, clusters = log_p_C.split([self.edges[0], len(self.tail)], -1)
        parts = [
            log_p_cluster[..., None] + _log_softmax(part(h))
            for part, log_p_cluster in zip(self.tail, clusters.unbind(-1), strict=True)
        ]
        return torch.cat([shortlist, *parts], -1)[..., self._ranks(h.device)]

    def _ranks(self, device: torch.device) -> Tensor:
        """The rank of every id, V."""
        if self.rank_V.device != device:
            self.rank_V = self.rank_V.to(device)
        return self.rank_V


def cluster_width(D: int, number: int, div_value: float) -> int:
    """The width of a cluster, counted from 1."""
    return int(D // div_value**number)


def plan_clusters(
    counts_V: Sequence[int] | np.ndarray, D: int, clusters: int = 2, div_value: float = 4.0, coverage: float = 0.8
) -> AdaptiveSoftmaxConfig:
    """The order and the cutoffs that cost the fewest multiplications per token, for text with these token counts.

    A token costs D (shortlist + clusters) in the head and, with the probability p_i that it lies in cluster i of k_i tokens and
    width D_i, D_i (D + k_i) there; the minimum over all cutoffs is found from the last cluster to the first (dynamic
    programming, as in section 4.3 of the paper). Deviations: the paper's cost also has constants measured on one GPU; and as the
    cheapest shortlist is so short that frequent tokens lose width, it has to hold a given share of the text. Cutoffs are looked
    for among 128 ranks, evenly spaced in the logarithm.

    Args:
        coverage: the least share of the text that the shortlist holds, as far as the clusters leave it tokens.

    Raises:
        ConfigError: fewer tokens than clusters, or a width that leaves the last cluster none.
    """
    counts = np.asarray(counts_V, np.float64)
    V = len(counts)
    if not 0 < clusters < V:
        raise ConfigError(f"must be 1 to {V - 1}, fewer than there are tokens", field="clusters", value=clusters)
    order = np.argsort(-counts, kind="stable")
    below = np.append(0.0, np.cumsum(counts[order])) / max(counts.sum(), 1.0)  # probability of the ranks before each
    ends = (
        np.unique(np.geomspace(1, V - 1, _CANDIDATES).round().astype(np.int64)) if V > _CANDIDATES else np.arange(1, V)
    )
    ends = np.append(ends, V)
    size = ends[None] - ends[:, None]  # of a cluster from one candidate to another
    mass = below[ends][None] - below[ends][:, None]
    rest = np.where(ends == V, 0.0, np.inf)  # the cost of everything from a candidate on
    choices = []
    for number in range(clusters, 0, -1):
        width = cluster_width(D, number, div_value)
        cost = np.where(size > 0, mass * width * (D + size) + rest[None], np.inf)
        choices.append(cost.argmin(1))
        rest = cost.min(1)
    whole = D * (ends + clusters) + rest
    wide = (below[ends] >= coverage) & np.isfinite(whole)
    at = int(np.where(wide, whole, np.inf).argmin()) if wide.any() else int(np.flatnonzero(np.isfinite(whole))[-1])
    cutoffs = [int(ends[at])]
    for choice in choices[:0:-1]:
        at = int(choice[at])
        cutoffs.append(int(ends[at]))
    config = AdaptiveSoftmaxConfig(cutoffs=tuple(cutoffs), div_value=div_value, order=tuple(order.tolist()))
    _check(D, V, config)
    return config


def _check(D: int, V: int, config: AdaptiveSoftmaxConfig) -> None:
    if config.cutoffs[-1] >= V:
        raise ConfigError(f"must be below the vocabulary's {V} tokens", field="cutoffs", value=config.cutoffs)
    if config.order is not None and sorted(config.order) != list(range(V)):
        raise ConfigError(f"must hold every token id from 0 to {V - 1} once", field="order", value=config.order)
    if not cluster_width(D, len(config.cutoffs), config.div_value):
        raise ConfigError(
            f"leaves the last of {len(config.cutoffs)} clusters no width of {D}",
            field="div_value",
            value=config.div_value,
            hint="a smaller div_value, or fewer cutoffs",
        )


def _cross_entropy(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    wide = torch.promote_types(logits_NC.dtype, torch.float32)
    return functional.cross_entropy(logits_NC.to(wide), targets_N, reduction="sum")


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
