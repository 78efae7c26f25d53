"""Gradients looked at: their norm by part of the model, and the vector-Jacobian product of a single module."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lens.logit_lens import block_names


def gradient_norms(model: Any) -> dict[str, float]:
    """L2 norm of the gradients (after `backward`) by part: `block 0` …, and what is outside the blocks by its module's name.

    A head that shares the embedding's weight has its gradient there. A part without gradients is left out.
    """
    blocks = {name: f"block {i}" for i, name in enumerate(block_names(model))}
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        own = name.rpartition(".")[0]
        part = next((part for block, part in blocks.items() if name.startswith(f"{block}.")), own)
        squares[part] = squares.get(part, 0.0) + float(parameter.grad.double().square().sum())
    return {part: math.sqrt(total) for part, total in squares.items()}


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
