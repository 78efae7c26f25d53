"""A weight that stays quantised: an ordinary module has it where it had a float tensor, and computes the same products from it.

`functional.linear` and `functional.embedding` read the blocks; everything else gets the weights in float32, made for the moment.
On the CPU `kernels` multiply with vectors of 8 bits, as llama.cpp does; elsewhere weights are made and multiplied as usual.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils._pytree import tree_map

from cutaway.quant import kernels
from cutaway.quant.formats import Format


def dequantise(model: nn.Module) -> None:
    """Write quantised weights out, in float32; what was shared stays so."""
    written: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
            if isinstance(weight, QuantTensor):
                setattr(module, name, written.setdefault(id(weight), nn.Parameter(weight.dequantised(), False)))


class QuantTensor(Tensor):
    """A matrix in a block format; its dtype is that of its products, float32.

    Args:
        tiles: what `Format.pack` makes of the file's rows.
        rows: of the matrix; tiles are filled up.
    """

    tiles: Tensor
    format: Format

    @staticmethod
    def __new__(cls, tiles: Tensor, format: Format, rows: int) -> "QuantTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, (rows, tiles.shape[1] * format.columns), dtype=torch.float32, device=tiles.device
        )
        made.tiles, made.format = tiles, format
        return made

    def __init__(self, tiles: Tensor, format: Format, rows: int):
        pass

    @classmethod
    def read(cls, blocks: Tensor, format: Format) -> "QuantTensor":
        """From a file's rows of blocks, R × bytes."""
        return cls(format.pack(blocks), format, len(blocks))

    def dequantised(self) -> Tensor:
        """The weights in float32."""
        return self.format.unpack(self.tiles)[: self.shape[0]]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"QuantTensor({list(self.shape)}, {self.format.name})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        handler = _HANDLED.get(func)
        if handler is not None:
            return handler(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _SAME:
            return args[0]._over(args[0].tiles)
        if func is torch.ops.aten._to_copy.default:
            return args[0]._over(args[0].tiles.to((kwargs or {}).get("device")))  # a number format is not its to change
        whole = tree_map(lambda x: x.dequantised() if isinstance(x, QuantTensor) else x, (args, kwargs or {}))
        return func(*whole[0], **whole[1])

    def _over(self, tiles: Tensor) -> "QuantTensor":
        return QuantTensor(tiles, self.format, self.shape[0])


_SAME = {torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.clone.default}


def _linear(x: Tensor, weight: QuantTensor, bias: Tensor | None = None) -> Tensor:
    y = _Linear.apply(x, weight)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias


class _Linear(torch.autograd.Function):
    """x Wᵀ; the gradient of x is made with the weights in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: QuantTensor) -> Tensor:
        ctx.weight = weight
        if not kernels.available(x.device):
            return x @ weight.dequantised().to(x.dtype).T
        flat = x.reshape(-1, x.shape[-1])
        y = kernels.product(flat, weight.tiles, weight.format, weight.shape[0])
        return y.view(*x.shape[:-1], -1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = upstream
        return grad @ ctx.weight.dequantised().to(grad.dtype), None


def _embedding(ids: Tensor, weight: QuantTensor, *args: Any, **kwargs: Any) -> Tensor:
    if kernels.available(ids.device):
        return kernels.weights_of(ids, weight.tiles, weight.format, weight.shape[0])
    return functional.embedding(ids, weight.dequantised())


def _isfinite(weight: QuantTensor) -> Tensor:
    """Of the whole at once, without making the weights."""
    return torch.tensor(weight.format.finite(weight.tiles))


_HANDLED: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear,
    functional.embedding: _embedding,
    torch.isfinite: _isfinite,
}
