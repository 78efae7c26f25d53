"""L1 and L2 penalties of the weights, for any torch optimiser.

    loss + l1 · Σ |w| + l2 / 2 · Σ w²

The L2 term goes where the loss's gradient goes, so that Adam scales it with the rest; weight decay is not scaled
(Loshchilov & Hutter 2019). The L1 term is a step of its own after the optimiser's, w ← sign(w) · max(|w| - lr · l1, 0), as in
proximal gradient descent (Parikh & Boyd 2014, section 6.5.2): a subgradient would jitter around zero, this leaves exact zeros.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def add_penalty(optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter], l1: float, l2: float) -> None:
    """Make every step of `optimizer` penalise `weights`; clipping has been done by then and does not see it.

    Args:
        weights: of groups that `optimizer` trains.
        l1, l2: 0: none.
    """
    mine = {id(weight) for weight in weights}

    def add_gradient(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for weight in weights:
            if weight.grad is not None:
                weight.grad.add_(weight.detach(), alpha=l2)

    @torch.no_grad()
    def shrink(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if id(weight) in mine and weight.grad is not None:
                    weight.copy_(weight.sign() * (weight.abs() - group["lr"] * l1).clamp(min=0))

    if l2:
        optimizer.register_step_pre_hook(add_gradient)
    if l1:
        optimizer.register_step_post_hook(shrink)
