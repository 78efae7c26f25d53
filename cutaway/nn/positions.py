"""Positions that are added: to the embeddings (sinusoids), or to the attention scores (T5's learned buckets, ALiBi).

Rotary positions, which turn queries and keys, are in `nn.rope`. A bias goes to `nn.attention.Attend` beside the mask.

Shapes: B batch, T query positions, S key positions, D model width, H heads, N buckets.
"""

import math

import torch
from torch import Tensor, nn


def sinusoidal(positions: Tensor, D: int) -> Tensor:
    """… × D, float32: sin(p / 10000^(2i/D)) in channel 2i and cos of the same in 2i + 1 (Vaswani et al. 2017, section 3.5).

    Moving by k is one rotation for all positions, so that a linear map of the encoding can say "k back".
    """
    channel = torch.arange(D, device=positions.device)
    angle = positions[..., None] * 10_000.0 ** (-(channel - channel % 2) / D)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


def relative_buckets(offsets: Tensor, buckets: int, max_distance: int, two_sided: bool) -> Tensor:
    """The bucket of each offset (key position - query position), 0 … `buckets` - 1; Raffel et al. 2020, section 2.1.

    Near offsets have a bucket each; farther ones share buckets that widen logarithmically up to `max_distance`, and all beyond
    share the last.

    Args:
        two_sided: for encoders: the upper half of the buckets is for keys after the query. Otherwise such keys are offset 0.
    """
    base = torch.zeros_like(offsets)
    distance = (-offsets).clamp(min=0)
    if two_sided:
        buckets //= 2
        base, distance = (offsets > 0) * buckets, offsets.abs()
    exact = buckets // 2
    octave = (distance.clamp(min=exact).float() / exact).log() / math.log(max_distance / exact)
    far = exact + (octave * (buckets - exact)).long()
    return base + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class RelativeBias(nn.Module):
    """T5's relative positions: a learned number per bucket and head, the same in every layer that is given the bias.

    Args:
        buckets, max_distance, two_sided: as in `relative_buckets`.
        H: heads.
    """

    def __init__(self, buckets: int, max_distance: int, two_sided: bool, H: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(buckets, H))  # N × H; the checkpoint's name and layout
        self.max_distance, self.two_sided = max_distance, two_sided

    def forward(self, queries_BT: Tensor, keys_S: Tensor) -> Tensor:
        """B × H × T × S from the positions of queries and keys."""
        offsets_BTS = keys_S - queries_BT[..., None]
        buckets_BTS = relative_buckets(offsets_BTS, len(self.weight), self.max_distance, self.two_sided)
        return self.weight[buckets_BTS].movedim(-1, 1)


def alibi_slopes(H: int) -> Tensor:
    """The slope of each head, float32: 2^(-8/H), 2^(-16/H) … 2^-8 (Press et al. 2022, section 3).

    Where H is no power of two, the authors take the slopes of the next lower power and fill up with every second one of
    twice that.
    """
    whole = 2 ** (H.bit_length() - 1)
    slopes = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    between = [2 ** (-8 * (i + 0.5) / whole) for i in range(whole)]
    return torch.tensor(slopes + between[: H - whole])


def alibi_bias(slopes_H: Tensor, queries_BT: Tensor, keys_S: Tensor) -> Tensor:
    """B × H × T × S: minus slope times distance; in both directions, so that it serves encoders too."""
    distance_BTS = (keys_S - queries_BT[..., None]).abs()
    return -slopes_H[:, None, None] * distance_BTS[:, None]
