"""A layer of experts: each token goes through the few feed-forward networks that a router picks for it.

Shazeer et al. 2017; Fedus et al. 2022. No token is dropped: tokens are sorted by expert, and every expert multiplies exactly
those that it was given.

Shapes: N tokens, D model width, E experts, K experts per token, M = N · K assignments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """Where tokens go.

    Args:
        logits_NE: the router's scores.
        experts_NK: the experts of each token, best first.
        weights_NK: how much each of them counts, float32.
    """

    logits_NE: Tensor
    experts_NK: Tensor
    weights_NK: Tensor


class ExpertLayer(nn.Module):
    """Base of a family's layer of experts: it has a `gate`, `experts`, and `k` experts per token.

    `routing` is where the tokens of the last forward pass went, for the balance loss and for inspection.
    """

    k: int
    gate: nn.Linear
    experts: nn.ModuleList
    routing: Routing | None = None

    def routed(self, x_ND: Tensor, normalise: bool) -> Tensor:
        """The weighted sum of each token's experts."""
        self.routing = route(self.gate(x_ND), self.k, normalise)
        return apply_experts(x_ND, self.routing, self.experts)


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


def apply_experts(x_ND: Tensor, routing: Routing, experts: nn.Module) -> Tensor:
    """The weighted sum of each token's experts, N × D.

    Args:
        experts: a list of them, or what has them elsewhere (`nn.spread_experts`).
    """
    K = routing.experts_NK.shape[1]
    expert_of = routing.experts_NK.flatten()
    order = expert_of.argsort(stable=True)
    token_of = order // K
    counts_E = torch.bincount(expert_of, minlength=routing.logits_NE.shape[1]).tolist()
    weights = routing.weights_NK.flatten()[order].to(x_ND.dtype)[:, None]
    x_MD = x_ND[token_of]
    y_MD = _each(experts, x_MD, counts_E) if isinstance(experts, nn.ModuleList) else experts(x_MD, counts_E)
    return torch.zeros_like(x_ND).index_add_(0, token_of, y_MD * weights)


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


def balance_loss(routing: Routing) -> Tensor:
    """E · Σ_e f_e · p_e (Fedus et al. 2022, eq. 4-6): f_e assignments of e per token, p_e its mean probability.

    k when the load is even, more when it is not.
    """
    N, E = routing.logits_NE.shape
    f_E = torch.bincount(routing.experts_NK.flatten(), minlength=E) / N
    p_E = routing.logits_NE.float().softmax(-1).mean(0)
    return E * (f_E * p_E).sum()
