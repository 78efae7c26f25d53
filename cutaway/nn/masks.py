"""Masks: boolean, true where a query may attend. B batch, T query positions, S key positions."""

import torch
from torch import Tensor


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """T × S: the queries are the last T of S positions, and each sees itself and what came before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def full_mask(S: int, device: torch.device) -> Tensor:
    """1 × 1 × 1 × S: every query sees every key; for encoders without padding."""
    return torch.ones(1, 1, 1, S, dtype=torch.bool, device=device)


def same_segment(segments_BT: Tensor) -> Tensor:
    """B × 1 × T × T: both sides, and only inside the same document of a packed row; padding (0) attends to padding."""
    return (segments_BT[:, :, None] == segments_BT[:, None, :])[:, None]


def segment_mask(segments_BT: Tensor) -> Tensor:
    """B × 1 × T × T: causal, and only inside the same document of a packed row; segment 0 is padding.

    Padding attends to padding, so that no row of the softmax is empty; nothing supervised reads it.
    """
    T = segments_BT.shape[1]
    return same_segment(segments_BT) & causal_mask(T, T, segments_BT.device)


def padding_mask(lengths_B: Tensor, S: int) -> Tensor:
    """B × 1 × 1 × S: keys before each row's length; for encoders."""
    return (torch.arange(S, device=lengths_B.device)[None] < lengths_B[:, None])[:, None, None]


def sliding_window(mask: Tensor, window: int, sinks: int = 0) -> Tensor:
    """Narrow a mask whose queries are the last T of S positions: a query sees the `window` positions that end in itself, and the
    first `sinks` of all (`nn.sinks`)."""
    T, S = mask.shape[-2:]
    queries, keys = torch.arange(S - T, S, device=mask.device)[:, None], torch.arange(S, device=mask.device)
    return mask & ((queries - keys < window) | (keys < sinks))
