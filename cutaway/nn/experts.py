"""A layer of experts: each token goes through the few feed-forward networks that a router picks for it.

Shazeer et al. 2017; Fedus et al. 2022. Tokens are sorted by expert, and every expert multiplies exactly those that it was given.
None is dropped, unless training is told a capacity. The load is evened by a loss, or by a bias on the choice.

Shapes: N tokens, D model width, E experts, K experts per token, M = N · K assignments.
"""

import math
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.core.distributed import like, total

_ROWS = 32
"""In training the tokens of an expert are filled up to a multiple of so many, with some whose weight is zero. The CPU's bfloat16
products are compiled for every number of rows, which takes as long as the product itself (measured)."""


@dataclass(frozen=True)
class Routing:
    """Where tokens go.

    Args:
        logits_NE: the router's scores.
        experts_NK: the experts of each token, best first.
        weights_NK: how much each of them counts, float32.
        kept_NK: false where an expert is full and drops the token; None: none is.
    """

    logits_NE: Tensor
    experts_NK: Tensor
    weights_NK: Tensor
    kept_NK: Tensor | None = None


class RoutingConfig(Config):
    """What training does about an uneven load; a family's configuration has these fields beside its own."""

    expert_bias_rate: float | None = Field(
        None, gt=0, description="how far a bias on the choice moves per step against a load above or below the mean"
    )
    capacity_factor: float | None = Field(
        None,
        gt=0,
        description="in training an expert takes so many times its even share of tokens, and drops the rest; null: all",
    )


class ExpertLayer(nn.Module):
    """Base of a family's layer of experts: it has a `gate`, `experts`, and `k` experts per token.

    `routing` is where the tokens of the last forward pass went, for the balance loss and for inspection; `assigned_E` counts
    those of the training passes since `move_biases`. `expert_bias` is there where the configuration gives it a rate.
    """

    k: int
    gate: nn.Linear
    experts: nn.ModuleList
    routing: Routing | None = None
    assigned_E: Tensor | None = None

    def __init__(self, config: RoutingConfig, E: int):
        super().__init__()
        self.bias_rate, self.capacity_factor = config.expert_bias_rate or 0.0, config.capacity_factor
        # A parameter, so that it is saved, loaded and sharded like the others; no gradient ever reaches it.
        self.expert_bias = nn.Parameter(torch.zeros(E), requires_grad=False) if self.bias_rate else None

    def routed(self, x_ND: Tensor, normalise: bool) -> Tensor:
        """The weighted sum of each token's experts."""
        routing = route(self.gate(x_ND), self.k, normalise, self.expert_bias)
        if self.training and self.expert_bias is not None:
            counts_E = torch.bincount(routing.experts_NK.flatten(), minlength=len(self.experts))
            self.assigned_E = counts_E if self.assigned_E is None else self.assigned_E + counts_E
        if self.training and self.capacity_factor is not None:
            routing = replace(routing, kept_NK=within_capacity(routing, self.capacity_factor))
        self.routing = routing
        return apply_experts(x_ND, routing, self.experts)


@torch.no_grad()
def move_biases(model: nn.Module) -> None:
    """After a step, move every bias by its rate towards an even load of that step, over all processes.

    b_e += u · sign(mean load − load of e), Wang et al. 2024, algorithm 1.
    """
    for layer in expert_layers(model).values():
        if layer.expert_bias is not None and layer.assigned_E is not None:
            load_E = torch.tensor(total(*layer.assigned_E.tolist()), dtype=torch.float64)
            towards_E = (load_E.mean() - load_E).sign().to(layer.expert_bias.dtype)
            layer.expert_bias.add_(like(layer.bias_rate * towards_E, layer.expert_bias))
            layer.assigned_E = None


def forget_load(model: nn.Module) -> None:
    """Before a first step: no pass so far counts (a look at what a step takes is one)."""
    for layer in expert_layers(model).values():
        layer.assigned_E = None


def expert_layers(model: nn.Module) -> dict[str, ExpertLayer]:
    """The layers of experts of a model, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ExpertLayer)}


def route(logits_NE: Tensor, k: int, normalise: bool, bias_E: Tensor | None = None) -> Routing:
    """Softmax over all experts, then the k best.

    Args:
        normalise: make the weights of the chosen sum to one (Mixtral), or leave them as they are (Qwen's default).
        bias_E: added when choosing and not when weighing: balance without a loss (Wang et al. 2024).
    """
    probabilities_NE = logits_NE.float().softmax(-1)
    chosen_by_NE = probabilities_NE if bias_E is None else probabilities_NE + bias_E
    experts_NK = chosen_by_NE.topk(k, dim=-1).indices
    weights_NK = probabilities_NE.gather(-1, experts_NK)
    if normalise:
        weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
    return Routing(logits_NE, experts_NK, weights_NK)


def within_capacity(routing: Routing, factor: float) -> Tensor:
    """N × K, true where a token finds room: an expert takes ⌈factor · N K / E⌉ (Fedus et al. 2022, equation 3).

    First choices come before second ones (Lepikhin et al. 2021), and earlier tokens before later ones.
    """
    (N, K), E = routing.experts_NK.shape, routing.logits_NE.shape[1]
    expert_of = routing.experts_NK.T.flatten()
    order = expert_of.argsort(stable=True)
    counts_E = torch.bincount(expert_of, minlength=E)
    first_E = counts_E.cumsum(0) - counts_E
    place = torch.empty_like(order)
    place[order] = torch.arange(N * K, device=order.device) - first_E[expert_of[order]]
    return (place < math.ceil(factor * N * K / E)).view(K, N).T


@torch.compiler.disable  # type: ignore[untyped-decorator]  # how many tokens an expert gets is another number every time
def apply_experts(x_ND: Tensor, routing: Routing, experts: nn.Module) -> Tensor:
    """The weighted sum of each token's experts, N × D; a dropped token gets nothing.

    Args:
        experts: a list of them, or what has them elsewhere (`nn.spread_experts`).
    """
    N, K = routing.experts_NK.shape
    expert_of = routing.experts_NK.flatten()
    order = expert_of.argsort(stable=True)
    if routing.kept_NK is not None:
        order = order[routing.kept_NK.flatten()[order]]
    counts_E = torch.bincount(expert_of[order], minlength=routing.logits_NE.shape[1]).tolist()
    if torch.is_grad_enabled():
        parts = [functional.pad(part, (0, -len(part) % _ROWS), value=N * K) for part in order.split(counts_E)]
        order, counts_E = torch.cat(parts), [len(part) for part in parts]
    token_of = (order // K).clamp(max=N - 1)
    weights = functional.pad(routing.weights_NK.flatten(), (0, 1)).index_select(0, order).to(x_ND.dtype)
    x_MD = x_ND.index_select(0, token_of)  # on the CPU the gradient of indexing takes five times as long
    y_MD = _each(experts, x_MD, counts_E) if isinstance(experts, nn.ModuleList) else experts(x_MD, counts_E)
    return torch.zeros_like(x_ND).index_add_(0, token_of, y_MD * weights[:, None])


def _each(experts: nn.ModuleList, x_MD: Tensor, counts_E: list[int]) -> Tensor:
    """Tokens sorted by expert, through theirs. In training an expert without tokens has a gradient too, which is zero: all
    processes must hold the same ones, whatever their tokens."""
    training = torch.is_grad_enabled()
    pairs = zip(experts, x_MD.split(counts_E), strict=True)
    return torch.cat([expert(part) for expert, part in pairs if training or len(part)])


def load(routing: Routing) -> Tensor:
    """The share of all assignments that each expert got, E; even is 1 / E."""
    E = routing.logits_NE.shape[1]
    return torch.bincount(routing.experts_NK.flatten(), minlength=E) / routing.experts_NK.numel()


def balance_loss(routing: Routing, real_N: Tensor | None = None) -> Tensor:
    """E · Σ_e f_e · p_e (Fedus et al. 2022, eq. 4-6): f_e assignments of e per token, p_e its mean probability.

    k when the load is even, more when it is not.

    Args:
        real_N: true where a token is no padding, which does not count; None: all are.
    """
    logits_NE, experts_NK = routing.logits_NE, routing.experts_NK
    if real_N is not None:
        logits_NE, experts_NK = logits_NE[real_N], experts_NK[real_N]
    N, E = max(1, len(logits_NE)), logits_NE.shape[1]
    f_E = torch.bincount(experts_NK.flatten(), minlength=E) / N
    p_E = logits_NE.float().softmax(-1).sum(0) / N
    return E * (f_E * p_E).sum()
