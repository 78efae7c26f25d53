"""How a block of a GGUF file holds codes and the numbers about them: taken apart, and put together again.

Blocks are bytes R × N × stored. Codes are R × N × columns, from 0 on; numbers are lists of tensors R × N × bytes, in half
precision or small integers. The layouts are those of ggml's ggml-common.h; `formats` says which format has which.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Codes = Callable[[Tensor], Tensor]
Numbers = Callable[[Tensor], list[Tensor]]
Together = Callable[[Tensor, list[Tensor]], Tensor]


def low_high(qs: Tensor) -> Tensor:
    """Bytes … × n to 2 n codes: the low halves of all, then the high ones.

    >>> low_high(torch.tensor([0x21, 0x43], dtype=torch.uint8)).tolist()
    [1, 3, 2, 4]
    """
    return torch.cat((qs & 15, qs >> 4), -1)


def halves(codes: Tensor) -> Tensor:
    """The way back from `low_high`; what is above four bits is left out."""
    low, high = codes.chunk(2, -1)
    return low & 15 | (high & 15) << 4


def bits(packed: Tensor) -> Tensor:
    """Bytes … × n to 8 n bits, lowest first."""
    return torch.stack([packed >> j & 1 for j in range(8)], -1).flatten(-2)


def joined(parts: Tensor, width: int) -> Tensor:
    """… × n × m small numbers of `width` bits to … × m bytes, the first in the lowest bits."""
    return torch.stack([parts[..., j, :] << width * j for j in range(parts.shape[-2])]).sum(0).to(torch.uint8)


def q4_codes(b: Tensor) -> Tensor:
    return low_high(b[..., -16:])


def q4_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    return torch.cat([*numbers, halves(codes)], -1)


def q5_codes(b: Tensor) -> Tensor:
    return low_high(b[..., -16:]) | bits(b[..., -20:-16]) << 4


def q5_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    high = joined((codes >> 4).unflatten(-1, (4, 8)).transpose(-1, -2), 1)
    return torch.cat([*numbers, high, halves(codes)], -1)


def q8_codes(b: Tensor) -> Tensor:
    return b[..., 2:] ^ 128


def q8_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    return torch.cat([*numbers, codes ^ 128], -1)


def d_only(b: Tensor) -> list[Tensor]:
    return [b[..., :2]]


def d_and_m(b: Tensor) -> list[Tensor]:
    return [b[..., :2], b[..., 2:4]]


def k_numbers(b: Tensor) -> list[Tensor]:
    """Q4_K, Q5_K: 12 bytes of six-bit numbers become a scale and a minimum per group, side by side; d and dmin stay."""
    first, second, third = b[..., 4:8], b[..., 8:12], b[..., 12:16]
    scale = torch.cat((first & 63, third & 15 | first >> 6 << 4), -1)
    minimum = torch.cat((second & 63, third >> 4 | second >> 6 << 4), -1)
    return [torch.stack((scale, minimum), -1).flatten(-2), b[..., :2], b[..., 2:4]]


def _k_head(numbers: list[Tensor]) -> list[Tensor]:
    both, d, dmin = numbers
    scale, minimum = both.unflatten(-1, (8, 2)).unbind(-1)
    first, second = (part[..., :4] | part[..., 4:] >> 4 << 6 for part in (scale, minimum))
    return [d, dmin, first, second, scale[..., 4:] & 15 | (minimum[..., 4:] & 15) << 4]


def _k_low(qs: Tensor) -> Tensor:
    """Every 32 bytes hold 64 columns."""
    return low_high(qs.unflatten(-1, (4, 32))).flatten(-2)


def _k_halves(codes: Tensor) -> Tensor:
    return halves(codes.unflatten(-1, (4, 64))).flatten(-2)


def q4k_codes(b: Tensor) -> Tensor:
    return _k_low(b[..., 16:])


def q4k_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    return torch.cat([*_k_head(numbers), _k_halves(codes)], -1)


def q5k_codes(b: Tensor) -> Tensor:
    high = torch.stack([b[..., 16:48] >> j & 1 for j in range(8)], -2).flatten(-2)
    return _k_low(b[..., 48:]) | high << 4


def q5k_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    high = joined((codes >> 4).unflatten(-1, (8, 32)), 1)
    return torch.cat([*_k_head(numbers), high, _k_halves(codes)], -1)


def q6k_numbers(b: Tensor) -> list[Tensor]:
    return [b[..., 192:208], b[..., 208:]]


def q6k_codes(b: Tensor) -> Tensor:
    low = b[..., :128].unflatten(-1, (2, 64))
    high = b[..., 128:192].unflatten(-1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3
    return (low_high(low) | high.flatten(-2) << 4).flatten(-2)


def q6k_together(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    sides = codes.unflatten(-1, (2, 128))
    high = joined((sides >> 4).unflatten(-1, (4, 32)), 2)
    return torch.cat([halves(sides).flatten(-2), high.flatten(-2), *numbers], -1)
