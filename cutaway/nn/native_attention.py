"""Attention for training in bfloat16 on the CPU, by `native/attention.cpp`: a third of a step's time with PyTorch's kernel.

Dao et al. 2022: the weights are never stored, and blocks that a mask leaves empty are skipped, so packed documents pay for
themselves only. It is a backend only where `suits` says so; elsewhere `attend_sdpa` computes the same.

Shapes: B batch, T queries, S keys, H query heads, G key-value heads, K head width.
"""

import ctypes

import torch
from torch import Tensor

from cutaway.core.device import has_fast_bfloat16
from cutaway.core.native import native_library

LANES = 16  # numbers in a register: head widths are multiples of it


def suits(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, bias: Tensor | None) -> bool:
    """Whether the native kernel, where it is available, can take these and gains by it: gradients, in bfloat16, on the CPU."""
    return (
        q_BHTK.device.type == "cpu"
        and bias is None
        and torch.is_grad_enabled()
        and all(_product_dtype(x) == torch.bfloat16 for x in (q_BHTK, k_BGSK, v_BGSK))
        and (q_BHTK.requires_grad or k_BGSK.requires_grad or v_BGSK.requires_grad)
        and q_BHTK.shape[-1] == v_BGSK.shape[-1]
        and q_BHTK.shape[-1] % LANES == 0
    )


def _product_dtype(x: Tensor) -> torch.dtype:
    """The format that products of x are computed in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def available() -> bool:
    """Whether this machine has a compiler and a processor for the kernel."""
    if not has_fast_bfloat16(torch.device("cpu")):
        return False
    library = native_library("attention")
    return library is not None and bool(library.attention_supported())


def attend_native(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention, B × H × T × K; the mask is causal where it is None, and a query that may attend to nothing gets zeros."""
    q, k, v = (x.to(torch.bfloat16) for x in (q_BHTK, k_BGSK, v_BGSK))
    return _forward(q, k, v, mask, scale)[0]


@torch.library.custom_op("cutaway::attention", mutates_args=(), device_types="cpu")
def _forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """The outputs, and per query the log of the sum of exp(score)."""
    q, k, v = _rows(q), _rows(k), _rows(v)
    mask = _expanded(mask, q, k)
    out = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty(q.shape[:3], dtype=torch.float32)
    sizes, strides = _sizes(q, k), _strides(q, k, v, mask)
    _call("attention_forward", [q, k, v, mask, out, lse], sizes, strides, scale)
    return out, lse


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("cutaway::attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, d_out: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients; those of keys and values per query head."""
    q, k, v, d_out = _rows(q), _rows(k), _rows(v), _rows(d_out)
    mask = _expanded(mask, q, k)
    dq = torch.empty(q.shape, dtype=q.dtype)
    dk, dv = (torch.empty(*q.shape[:2], *k.shape[2:], dtype=q.dtype) for _ in range(2))
    sizes, strides = _sizes(q, k), _strides(q, k, v, d_out, mask)
    _call("attention_backward", [q, k, v, d_out, mask, out, lse, dq, dk, dv], sizes, strides, scale)
    return dq, dk, dv


@_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, d_out: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    per_head = (*q.shape[:2], *k.shape[2:])
    return q.new_empty(q.shape), q.new_empty(per_head), q.new_empty(per_head)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, mask, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, mask, *output)


def _gradients(ctx, d_out, _):  # type: ignore[no-untyped-def]
    q, k, v, mask, out, lse = ctx.saved_tensors
    dq, dk, dv = _backward(q, k, v, mask, out, lse, d_out, ctx.scale)
    groups = k.shape[1], q.shape[1] // k.shape[1]
    if groups[1] > 1:
        dk, dv = (grad.unflatten(1, groups).sum(2) for grad in (dk, dv))
    return dq, dk, dv, None, None


_forward.register_autograd(_gradients, setup_context=_save)


def _rows(x: Tensor) -> Tensor:
    """As it lies, where the numbers of a head are neighbours and rows begin at whole words."""
    return x if x.stride(-1) == 1 and all(stride % 2 == 0 for stride in x.stride()[:-1]) else x.contiguous()


def _expanded(mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    if mask is None:
        return None
    mask = mask.expand(*q.shape[:3], k.shape[2])
    return mask if mask.stride(-1) == 1 else mask.contiguous()


def _sizes(q: Tensor, k: Tensor) -> list[int]:
    B, H, T, K = q.shape
    return [B, H, k.shape[1], T, k.shape[2], K]


def _strides(*tensors: Tensor | None) -> list[int]:
    return [stride for tensor in tensors for stride in (tensor.stride()[:3] if tensor is not None else (0, 0, 0))]


def _call(name: str, tensors: list[Tensor | None], sizes: list[int], strides: list[int], scale: float) -> None:
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    longs = [(ctypes.c_long * len(values))(*values) for values in (sizes, strides)]
    getattr(native_library("attention"), name)(*pointers, *longs, ctypes.c_float(scale))
