"""Gradients looked at: the vector-Jacobian product of a single module."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pullback:
    """What a vector-Jacobian product gives: gradients of the floating-point inputs, and of the module's parameters by name."""

    inputs: tuple[Tensor, ...]
    parameters: dict[str, Tensor]


def vjp(module: nn.Module, call: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Pullback]]:
    """The output of `call(*inputs)`, and the function that pulls a cotangent of it back through this module alone.

        y, pull = vjp(block, lambda x: block(x, rope, None), x)
        pull(dy).inputs[0]          # dyᵀ ∂y/∂x
        pull(dy).parameters         # dyᵀ ∂y/∂θ

    Args:
        module: whose parameters count.
        call: runs the module on `inputs`; anything else it needs is a constant.
    """
    cut = tuple(value.detach().requires_grad_(value.is_floating_point()) for value in inputs)
    with torch.enable_grad():
        output = call(*cut)
    parameters = dict(module.named_parameters())
    moving = tuple(value for value in cut if value.requires_grad)

    def pull(cotangent: Tensor) -> Pullback:
        found = torch.autograd.grad(
            output, (*moving, *parameters.values()), cotangent, retain_graph=True, materialize_grads=True
        )
        return Pullback(found[: len(moving)], dict(zip(parameters, found[len(moving) :], strict=True)))

    return output.detach(), pull
