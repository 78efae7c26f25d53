"""Cross-entropy of next-token prediction, from logits and fused with the output head.

Per supervised position, with logits x, target t, lse = log Σ exp x, smoothing ε (Szegedy et al. 2016, section 7) and z-loss
weight ζ (Chowdhery et al. 2022, section 5):

    loss   = lse − (1 − ε) x_t − ε mean(x) + ζ lse²
    ∂/∂x_v = p_v (1 + 2 ζ lse) − (1 − ε) [v = t] − ε / V

Both functions return the *sum* over supervised positions; who calls divides by the number that fits (the loop: all supervised
tokens of a step). N positions, D model width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
"""The target of a position that is not supervised (PyTorch's convention)."""

_CACHED, _MOST = 2**23, 2**26  # logits: 16 MB in bfloat16, which a large cache still holds; 128 MB
_IN_CACHE = 2**19  # logits: 2 MB in float32
_PRODUCT_IN_CACHE = 2**21  # numbers of the weight's gradient: 4 MB in bfloat16


def chunk_positions(N: int, V: int, D: int) -> int:
    """How many of N positions have their logits held at a time by `linear_cross_entropy`.

    As many as keep the logits inside a large cache. With a large vocabulary those are few, and every chunk reads and writes the
    weight's gradient; then as many as take no more memory in bfloat16 than that gradient, within reason. Chunks are of like size.
    """
    most = max(_CACHED // V, min(2 * D, _MOST // V), 64)
    return -(-N // max(1, -(-N // most)))


def held_bytes(N: int, weight_VD: Tensor, number: torch.dtype, device_type: str = "cpu") -> int:
    """Bytes that `linear_cross_entropy` of N positions holds at its most, beside what it is given.

    Logits of one chunk and the softmax of some rows of them; the weight in the products' format; its gradient, and the product
    that is added to it.

    Args:
        number: the format of the products.
        device_type: where it will run, if the weight is a fake.
    """
    V, D = weight_VD.shape
    chunk = chunk_positions(N, V, D)
    logits = chunk * V * number.itemsize + min(chunk, _rows_at_a_time(V, device_type) or chunk) * V * 4
    copied = V * D * number.itemsize if number != weight_VD.dtype else 0
    product = V * D // _weight_parts(V * D, device_type) * number.itemsize
    return logits + copied + (weight_VD.nbytes + product if weight_VD.requires_grad else 0)


def cross_entropy(logits_NV: Tensor, targets_N: Tensor, *, z_loss: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """The summed loss from logits that exist already; computed in float32 or wider.

    Args:
        targets_N: token ids; `IGNORED` where nothing is supervised.
        z_loss: ζ, the weight of lse², which keeps logits from drifting.
        label_smoothing: ε, the share of the target's probability that is spread over the vocabulary.
    """
    supervised = targets_N != IGNORED
    logits_NV, targets_N = logits_NV[supervised], targets_N[supervised]
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    lse_N = logits_NV.logsumexp(-1)
    target_N = logits_NV.gather(-1, targets_N[:, None])[:, 0]
    loss_N = lse_N - (1 - label_smoothing) * target_N
    if label_smoothing:
        loss_N = loss_N - label_smoothing * logits_NV.mean(-1)
    if z_loss:
        loss_N = loss_N + z_loss * lse_N.square()
    return loss_N.sum()


def linear_cross_entropy(
    h_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    *,
    chunk: int | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`cross_entropy(h @ weight.T + bias, targets)` that never holds more than `chunk` × V logits.

    The gradients are computed in the forward pass, while a chunk's logits are there (the idea of Hsu et al. 2024, Liger
    Kernel); positions that are not supervised cost nothing. Under autocast the products run in autocast's format, the
    softmax in float32, and the weight's gradient is summed in the weight's own format.

    Args:
        chunk: positions at a time; by default `chunk_positions`.
    """
    supervised = targets_N != IGNORED
    if not bool(supervised.all()):
        h_ND, targets_N = h_ND[supervised], targets_N[supervised]
    chunk = chunk or chunk_positions(len(h_ND), *weight_VD.shape)
    return _LinearCrossEntropy.apply(
        h_ND, weight_VD, bias_V, targets_N, chunk, z_loss, label_smoothing, torch.is_grad_enabled()
    )  # type: ignore[no-untyped-call]


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward computes the loss and, chunk by chunk, the gradients; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        chunk: int,
        z_loss: float,
        label_smoothing: float,
        training: bool,
    ) -> Tensor:
        wants_h, wants_weight, wants_bias = (training and wanted for wanted in ctx.needs_input_grad[:3])
        kind = h_ND.device.type
        number = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
        wide = torch.promote_types(number, torch.float32)
        matrix_VD = weight_VD.to(number)
        grad_h = torch.empty_like(h_ND) if wants_h else None
        grad_weight = torch.empty_like(weight_VD) if wants_weight else None
        grad_bias = torch.zeros_like(bias_V) if wants_bias and bias_V is not None else None
        total = torch.zeros((), dtype=wide, device=h_ND.device)
        with torch.autocast(kind, enabled=False):
            parts = max(1, -(-len(h_ND) // max(1, chunk)))
            for part, (h_CD, targets_C) in enumerate(
                zip(h_ND.to(number).tensor_split(parts), targets_N.tensor_split(parts), strict=True)
            ):
                logits_CV = F.linear(h_CD, matrix_VD, None if bias_V is None else bias_V.to(number))
                total += _to_errors(logits_CV, targets_C[:, None], z_loss, label_smoothing, wide, any_grad=training)
                errors_CV = logits_CV
                if grad_bias is not None:
                    grad_bias += errors_CV.sum(0, dtype=wide).to(grad_bias.dtype)
                if grad_h is not None:
                    grad_h.tensor_split(parts)[part].copy_(errors_CV @ matrix_VD)
                if grad_weight is not None:
                    _add_product(grad_weight, errors_CV, h_CD, first=part == 0)
        ctx.save_for_backward(grad_h, grad_weight, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        grads = ctx.saved_tensors
        if scale.item() != 1.0:
            grads = [None if grad is None else grad * scale.to(grad.dtype) for grad in grads]
        return (*grads, None, None, None, None, None)


def _add_product(grad_VD: Tensor, errors_CV: Tensor, h_CD: Tensor, first: bool) -> None:
    """Add `errors.T @ h`, or begin with it; on the CPU some rows at a time, so that the product is added from the cache."""
    parts = _weight_parts(grad_VD.numel(), grad_VD.device.type)
    for grad_RD, errors_CR in zip(grad_VD.tensor_split(parts), errors_CV.tensor_split(parts, 1), strict=True):
        product_RD = errors_CR.T @ h_CD
        grad_RD.copy_(product_RD) if first else grad_RD.add_(product_RD)


def _to_errors(
    logits_CV: Tensor, targets_C1: Tensor, z_loss: float, label_smoothing: float, wide: torch.dtype, any_grad: bool
) -> Tensor:
    """The summed loss; where a gradient is wanted, its derivative by the logits takes their place (see the top of this file).

    A few rows at a time on the CPU, so that what is between, in a wider format, stays in the cache.
    """
    C, V = logits_CV.shape
    rows = _rows_at_a_time(V, logits_CV.device.type) or max(1, C)
    total = torch.zeros((), dtype=wide, device=logits_CV.device)
    for x_RV, targets_R1 in zip(logits_CV.split(rows), targets_C1.split(rows), strict=True):
        log_p_RV = F.log_softmax(x_RV, -1, dtype=wide)
        log_p_target_R1 = log_p_RV.gather(-1, targets_R1)
        total -= (1 - label_smoothing) * log_p_target_R1.sum()
        if label_smoothing:
            total -= label_smoothing * log_p_RV.mean(-1).sum()
        lse_R1 = x_RV.gather(-1, targets_R1).to(wide) - log_p_target_R1
        if z_loss:
            total += z_loss * lse_R1.square().sum()
        if not any_grad:
            continue
        error_RV = log_p_RV.exp_()
        if z_loss:
            error_RV *= 1 + 2 * z_loss * lse_R1
        if label_smoothing:
            error_RV -= label_smoothing / V
        error_RV.scatter_add_(-1, targets_R1, torch.full_like(log_p_target_R1, label_smoothing - 1))
        x_RV.copy_(error_RV)
    return total


def _rows_at_a_time(V: int, device_type: str) -> int | None:
    """Of which the softmax is taken; None: of all."""
    return max(1, _IN_CACHE // V) if device_type == "cpu" else None


def _weight_parts(numbers: int, device_type: str) -> int:
    """In which the weight's gradient is computed."""
    return -(-numbers // _PRODUCT_IN_CACHE) if device_type == "cpu" else 1
