"""Activation functions, by the names that `config.json` gives them."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from cutaway.core.errors import CheckpointError, near_matches

ActivationName = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "silu"]


def quick_gelu(x: Tensor) -> Tensor:
    """x · σ(1.702 x): the sigmoid approximation of Hendrycks & Gimpel 2016, section 2, that CLIP was trained with."""
    return x * (1.702 * x).sigmoid()


def gelu_tanh(x: Tensor) -> Tensor:
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), Hendrycks & Gimpel 2016, section 2.

    Compiled, as x · σ(2 √(2/π) (x + 0.044715 x³)), which is the same: the compiler's tanh takes three times as long on the CPU.
    """
    if not torch.compiler.is_compiling():
        return functional.gelu(x, approximate="tanh")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3)).sigmoid()).to(x.dtype)


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)² (So et al. 2021)."""
    return functional.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": functional.relu,
    "relu2": relu_squared,
    "silu": functional.silu,
}


def check_activation(values: dict[str, Any], field: str) -> None:
    """Refuse a `config.json` whose `field`, where it is there, names an activation that is not in `ACTIVATIONS`."""
    name = values.get(field)
    if name is not None and name not in ACTIVATIONS:
        raise CheckpointError("unsupported", field=field, value=name, hint=near_matches(str(name), ACTIVATIONS))
