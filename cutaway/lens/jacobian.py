"""How a block's output moves when its input does: the Jacobian, whole or applied, and its largest singular value.

    y = f(x)   x, y: 1 × T × D        J = ∂y/∂x, T·D × T·D        J v: `jvp`        Jᵀ u: `vjp`

All of it by `torch.func` on a copy of the ordinary module, whose attention computes step by step: the fused kernel cannot be
differentiated in every mode. The residual path is a part of the block: one that adds little has a Jacobian near the identity.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lens.hooks import capture
from cutaway.lens.layers import Input, read_input
from cutaway.nn.attention import Attend

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cut:
    """A block, cut out of a pass over a text.

    Args:
        function: the block as a function of the residual stream; whatever else it got is held as it was.
        x: the residual stream that it got, 1 × T × D.
    """

    function: Function
    x: Tensor


def cut_out(model: Any, x: Input, name: str, dtype: torch.dtype = torch.float64) -> Cut:
    """The block of that name, on an input (`lens.layers`), computing in `dtype`; the model itself is left as it is.

    Raises:
        ConfigError: the model has no module of that name.
    """
    return next(cuts(model, x, [name], dtype))


def cuts(model: Any, x: Input, names: Sequence[str], dtype: torch.dtype = torch.float64) -> Iterator[Cut]:
    """Several blocks from one pass, in the order of their names; each is copied when it is asked for."""
    with capture(model, names) as calls, torch.no_grad():
        read_input(model, x)
    for name in names:
        stream, *rest = (_converted(value, dtype) for value in calls[name].inputs)
        block = copy.deepcopy(model.get_submodule(name)).to(dtype).eval().requires_grad_(False)
        for module in block.modules():
            if isinstance(module, Attend):
                module.backend = "reference"
        yield Cut(partial(_apply, block, rest), stream)


def _apply(block: nn.Module, rest: Sequence[Any], x: Tensor) -> Tensor:
    return block(x, *rest)


def vjp(f: Function, x: Tensor, u: Tensor) -> Tensor:
    """Jᵀ u: how the output's direction u depends on every input. The price of one backward pass."""
    return torch.func.vjp(f, x)[1](u)[0]


def jvp(f: Function, x: Tensor, v: Tensor) -> Tensor:
    """J v: where the output goes when the input goes towards v. The price of about two forward passes."""
    _ready_for_forward_mode()
    return torch.func.jvp(f, (x,), (v,))[1]


def jacobian(f: Function, x: Tensor, chunk: int = 256) -> Tensor:
    """All of J, as many rows as y has numbers and as many columns as x; `chunk` rows are computed at a time."""
    return torch.func.jacrev(f, chunk_size=chunk)(x).reshape(-1, x.numel())


def jacobian_at(f: Function, x: Tensor, position: int, source: int | None = None, chunk: int = 256) -> Tensor:
    """D × D: how what stands at `position` of the output depends on what stands at `source` of the input (by default there)."""
    source = position if source is None else source

    def part(at_D: Tensor) -> Tensor:
        x_TD = x[0].index_copy(0, torch.tensor([source], device=x.device), at_D[None])
        return f(x_TD[None])[0, position]

    return torch.func.jacrev(part, chunk_size=chunk)(x[0, source])


def spectral_norm(f: Function, x: Tensor, *, steps: int = 300, tolerance: float = 1e-8, seed: int = 0) -> float:
    """The largest singular value of J, by power iteration on JᵀJ: no Jacobian is ever held.

    Stops when the value moves by less than `tolerance` of itself, or after `steps`. It comes from below, the more slowly the
    closer the second value is to the first.
    """
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    largest = 0.0
    for _ in range(steps):
        y = jvp(f, x, v / v.norm())
        before, largest = largest, float(y.norm())
        if largest == 0.0 or math.isclose(before, largest, rel_tol=tolerance):
            break
        v = vjp(f, x, y)
    return largest


@cache
def _ready_for_forward_mode() -> None:
    """Torch's own first use of forward mode, without its notice on `torch.jit`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """A block's argument with its floating-point tensors in `dtype`, cut from their graph."""
    if isinstance(value, Tensor):
        return value.detach().to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_converted(item, dtype) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _converted(getattr(value, item.name), dtype) for item in fields(value)})
    return value
