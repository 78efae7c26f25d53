"""From hidden states to one vector per text. B batch, T positions, D width."""

from torch import Tensor
from torch.nn.functional import normalize


def mean_pool(h_BTD: Tensor, real_BT: Tensor) -> Tensor:
    """The mean over the real positions, scaled to length one: B × D (Reimers & Gurevych 2019)."""
    real_BT1 = real_BT[..., None]
    return normalize((h_BTD * real_BT1).sum(1) / real_BT1.sum(1), dim=-1)
