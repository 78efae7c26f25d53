"""Scaled dot-product attention with interchangeable backends.

softmax(q kᵀ · scale) v, Vaswani et al. 2017, eq. 1, with grouped key-value heads (Ainslie et al. 2023): query head h reads
key-value head h // (H / G).

Shapes: B batch, T query positions, S key positions, H query heads, G key-value heads, K head width.
A mask is boolean, broadcasts to B × H × T × S, and is true where a query may attend. `None` means causal: query t of the
last T positions sees keys up to S - T + t. A bias broadcasts to the same shape and is added to the scaled scores: positions as
T5 and ALiBi give them (`nn.positions`).
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.core.errors import ConfigError, near_matches
from cutaway.nn.masks import causal_mask
from cutaway.nn.native_attention import attend_native, available, suits


class Backend(Protocol):
    """softmax(q kᵀ · scale + bias) v, under a mask."""

    def __call__(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: Tensor | None,
        scale: float,
        *,
        bias: Tensor | None = None,
    ) -> Tensor: ...


def attention_scores(q_BHTK: Tensor, k_BGSK: Tensor, scale: float) -> Tensor:
    """q · k · scale for every pair: B × H × T × S, before bias, mask and softmax."""
    return q_BHTK @ _per_query_head(k_BGSK, q_BHTK.shape[1]).transpose(-1, -2) * scale


def attention_weights(
    q_BHTK: Tensor, k_BGSK: Tensor, mask: Tensor | None, scale: float, *, bias: Tensor | None = None
) -> Tensor:
    """The weights, B × H × T × S, in float32 or wider: rows sum to one; a row that may attend to nothing is all zero."""
    scores = attention_scores(wide(q_BHTK), wide(k_BGSK), scale)
    if bias is not None:
        scores = scores + bias
    if mask is None:
        mask = causal_mask(q_BHTK.shape[2], k_BGSK.shape[2], q_BHTK.device)
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return weights.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def attend_reference(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, scale: float, *, bias: Tensor | None = None
) -> Tensor:
    """Attention as the equation is written; the other backends are tested against it."""
    weights = attention_weights(q_BHTK, k_BGSK, mask, scale, bias=bias).to(v_BGSK.dtype)
    return weights @ _per_query_head(v_BGSK, q_BHTK.shape[1])


def attend_sdpa(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, scale: float, *, bias: Tensor | None = None
) -> Tensor:
    """PyTorch's fused kernel."""
    T, S, grouped = q_BHTK.shape[2], k_BGSK.shape[2], q_BHTK.shape[1] != k_BGSK.shape[1]
    causal = False  # and no expression: a comparison of lengths is no bool to a compiler that takes any
    if mask is None and T > 1:
        if T == S and bias is None:
            causal = True
        else:
            mask = causal_mask(T, S, q_BHTK.device)
    if bias is not None:
        bias = bias.to(q_BHTK.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(
        q_BHTK, k_BGSK, v_BGSK, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def attend_tiled(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Tensor | None,
    scale: float,
    tile: int = 128,
    *,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention that sees the keys tile by tile and never holds a whole row of weights (the online softmax).

    Milakov & Gimelshein 2018; Dao et al. 2022, algorithm 1. A running maximum m and sum l per query are corrected by
    exp(m_old - m_new) whenever a tile raises the maximum.
    """
    H, T, S = q_BHTK.shape[1], q_BHTK.shape[2], k_BGSK.shape[2]
    q, k, v = wide(q_BHTK), wide(_per_query_head(k_BGSK, H)), wide(_per_query_head(v_BGSK, H))
    mask = causal_mask(T, S, q.device) if mask is None else mask
    mask = mask.expand(*q.shape[:2], T, S)
    bias = q.new_zeros(()) if bias is None else bias
    bias = bias.expand(*q.shape[:2], T, S)
    highest = torch.full_like(q[..., :1], -math.inf)
    total = torch.zeros_like(highest)
    out = q.new_zeros(*q.shape[:3], v.shape[-1])
    for start in range(0, S, tile):
        scores = q @ k[:, :, start : start + tile].transpose(-1, -2) * scale + bias[..., start : start + tile]
        scores = scores.masked_fill(~mask[..., start : start + tile], -math.inf)
        new_highest = torch.maximum(highest, scores.amax(-1, keepdim=True))
        safe = new_highest.masked_fill(new_highest == -math.inf, 0.0)  # nothing allowed so far: exp(-inf) is 0, not NaN
        correction = (highest - safe).exp()
        weights = (scores - safe).exp()
        total = total * correction + weights.sum(-1, keepdim=True)
        out = out * correction + weights @ v[:, :, start : start + tile]
        highest = new_highest
    return (out / total.clamp_min(torch.finfo(total.dtype).tiny)).to(v_BGSK.dtype)


BACKENDS: dict[str, Backend] = {"reference": attend_reference, "sdpa": attend_sdpa, "tiled": attend_tiled}


class Attend(nn.Module):
    """The attention step as a module without parameters, so that hooks see q, k, v, mask and bias, and a backend is a value.

    Args:
        scale: what scores are multiplied by; 1/√K unless the family says otherwise.
        backend: a name in `BACKENDS`; in training, `sdpa` is our own kernel where that suits.
    """

    def __init__(self, scale: float, backend: str = "sdpa"):
        super().__init__()
        if backend not in BACKENDS:
            raise ConfigError("unknown backend", field="attention", value=backend, hint=near_matches(backend, BACKENDS))
        self.scale, self.backend = scale, backend
        self.native = False

    def train(self, mode: bool = True) -> "Attend":
        """Whether the native kernel is there is asked now and not in `forward`, which may be compiled."""
        self.native = mode and self.backend == "sdpa" and available()
        return super().train(mode)

    def forward(
        self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        if self.native and suits(q_BHTK, k_BGSK, v_BGSK, bias):
            return attend_native(q_BHTK, k_BGSK, v_BGSK, mask, self.scale)
        return BACKENDS[self.backend](q_BHTK, k_BGSK, v_BGSK, mask, self.scale, bias=bias)

    def weights(self, q_BHTK: Tensor, k_BGSK: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """The weights that `forward` used on the same inputs."""
        return attention_weights(q_BHTK, k_BGSK, mask, self.scale, bias=bias)


def _per_query_head(x_BGSK: Tensor, H: int) -> Tensor:
    """Repeat key-value heads so that there is one per query head."""
    return x_BGSK.repeat_interleave(H // x_BGSK.shape[1], dim=1)


def wide(x: Tensor) -> Tensor:
    """In the format that softmaxes are computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
