"""Scales and offsets with which a format comes nearest to given weights.

Weights are whole numbers of steps: weight ≈ scale · code + offset. For each group of columns the search tries ranges somewhat
narrower and wider than the weights', rounds to codes, solves for the scale and the offset of least weighted squared error with
those codes held (a linear problem in two unknowns), keeps the best, and rounds and solves again, which never makes it worse.
Where a format stores a group's scale and minimum as small integers (the K formats), these and the block's own two numbers are
improved in turn in the same way. The method is our own; llama.cpp searches scales too, with other candidates and weights.

Shapes: … any leading axes, G groups of a block, C columns of a group. Numbers about a group are … × G × 1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_TINY = 1e-30
_STEPS = torch.linspace(-1, 1, 17)  # by which a range's width in steps differs from that of all codes
_ROUNDS = 3


@dataclass(frozen=True)
class Fit:
    """What stands about the codes of some blocks.

    Args:
        scale, offset: of each group, float32, as the stored numbers give them.
        numbers: these, … × bytes each, in the order of `layout`.
    """

    scale: Tensor
    offset: Tensor
    numbers: list[Tensor]


def symmetric(weights: Tensor, importance: Tensor, zero: int, lowest: int, highest: int) -> Fit:
    """Q4_0, Q5_0, Q8_0: one scale for a block, and a code that stands for zero."""
    half = _scale(weights, importance, zero, lowest, highest).half()
    return Fit(half.float(), -zero * half.float(), [_bytes(half)])


def affine(weights: Tensor, importance: Tensor, highest: int) -> Fit:
    """Q4_1, Q5_1: a scale and an offset."""
    scale, offset = (part.half() for part in _scale_offset(weights, importance, highest))
    return Fit(scale.float(), offset.float(), [_bytes(scale), _bytes(offset)])


def nested_symmetric(weights: Tensor, importance: Tensor, zero: int, highest: int) -> Fit:
    """Q6_K: per group a whole number of −128 … 127, and a scale of the block for these."""
    wanted = _scale(weights, importance, zero, 0, highest)
    d = _half(wanted.gather(-2, wanted.abs().argmax(-2, keepdim=True)) / -128)
    whole = _whole(wanted, d, -128, 127)
    for _ in range(_ROUNDS):
        sums = _sums(weights, importance, nearest(weights, d * whole, -zero * d * whole, 0, highest) - zero)
        d = _half(_ratio((whole * sums.xq).sum(-2, True), (whole * whole * sums.qq).sum(-2, True)))
        whole = _whole(_ratio(sums.xq, sums.qq), d, -128, 127)
    return Fit(d * whole, -zero * d * whole, [whole[..., 0].to(torch.int8).view(torch.uint8), _bytes(d.half())])


def nested_affine(weights: Tensor, importance: Tensor, highest: int) -> Fit:
    """Q4_K, Q5_K: per group a scale and a minimum of six bits, and a number of the block for each of the two."""
    scale, offset = _scale_offset(weights, importance, highest, below_zero=True)
    d, dmin = (_half(part.amax(-2, keepdim=True) / 63) for part in (scale, -offset))
    s, m = _whole(scale, d, 0, 63), _whole(-offset, dmin, 0, 63)
    for _ in range(_ROUNDS):
        sums = _sums(weights, importance, nearest(weights, d * s, -dmin * m, 0, highest))
        d, dmin = (_half(part) for part in _solved(*((part.sum(-2, True)) for part in sums.scaled(s, -m))))
        s, m = _near_pairs(sums, d, dmin)
    both = torch.cat((s, m), -1).flatten(-2).to(torch.uint8)
    return Fit(d * s, -dmin * m, [both, _bytes(d.half()), _bytes(dmin.half())])


def nearest(weights: Tensor, scale: Tensor, offset: Tensor, lowest: int, highest: int) -> Tensor:
    """The nearest codes, in float32."""
    return ((weights - offset) * _inverse(scale)).round_().clamp_(lowest, highest)


class _Sums(NamedTuple):
    """Of importance times products of weights x and codes q: all that the squared error depends on."""

    qq: Tensor
    q: Tensor
    one: Tensor
    xq: Tensor
    x: Tensor

    def scaled(self, s: Tensor, o: Tensor) -> "_Sums":
        """With s · q for each code and o for each one."""
        return _Sums(s * s * self.qq, s * o * self.q, o * o * self.one, s * self.xq, o * self.x)

    def error(self, scale: Tensor, offset: Tensor) -> Tensor:
        """Squared error, but for what neither scale nor offset change."""
        of_codes = scale * (scale * self.qq + 2 * (offset * self.q - self.xq))
        return of_codes + offset * (offset * self.one - 2 * self.x)


def _sums(weights: Tensor, importance: Tensor, codes: Tensor) -> _Sums:
    weighed = importance * codes
    one, x = importance.expand_as(weights).sum(-1, True), (importance * weights).sum(-1, True)
    return _Sums((weighed * codes).sum(-1, True), weighed.sum(-1, True), one, (weighed * weights).sum(-1, True), x)


def _solved(qq: Tensor, q: Tensor, one: Tensor, xq: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset of least squared error; where many do, as when all codes are the same, an offset comes first."""
    determinant = qq * one - q * q
    clear = determinant > 1e-6 * qq * one
    offset = torch.where(clear, (x * qq - xq * q) * _inverse(determinant), _ratio(x, one))
    return _ratio(xq - q * offset, qq), offset


def _scale(weights: Tensor, importance: Tensor, zero: int, lowest: int, highest: int) -> Tensor:
    """With the weight of the largest size near the lowest code, whatever its sign, as negative codes reach further."""
    extreme = weights.gather(-1, weights.abs().argmax(-1, keepdim=True))
    best, gained = torch.zeros_like(extreme), torch.zeros_like(extreme)
    for step in _STEPS:
        codes = (weights * ((lowest - zero + step) * _inverse(extreme))).round_().clamp_(lowest - zero, highest - zero)
        weighed = importance * codes
        top, bottom = (weighed * weights).sum(-1, True), (weighed * codes).sum(-1, True)
        gain = _ratio(top * top, bottom)
        best = torch.where(gain > gained, _ratio(top, bottom), best)
        gained = torch.maximum(gain, gained)
    return best


def _scale_offset(weights: Tensor, importance: Tensor, highest: int, below_zero: bool = False) -> tuple[Tensor, Tensor]:
    """Args: below_zero: the offset shall not be positive."""
    low, high = weights.amin(-1, True), weights.amax(-1, True)
    if below_zero:
        low = low.clamp_max(0)

    def solved(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sums = _sums(weights, importance, codes)
        scale, offset = _solved(*sums)
        if below_zero:
            above = offset > 0
            scale, offset = torch.where(above, _ratio(sums.xq, sums.qq), scale), offset.clamp_max(0)
        scale = scale.clamp_min(0)
        return scale, offset, sums.error(scale, offset)

    scale, offset = (high - low) / highest, low
    least = torch.full_like(low, torch.inf)
    for step in _STEPS:
        tried = solved(nearest(weights, (high - low) / (highest + step), low, 0, highest))
        better = tried[2] < least
        scale, offset, least = (torch.where(better, *pair) for pair in zip(tried, (scale, offset, least), strict=True))
    for _ in range(_ROUNDS):
        tried = solved(nearest(weights, scale, offset, 0, highest))
        better = tried[2] < least
        scale, offset, least = (torch.where(better, *pair) for pair in zip(tried, (scale, offset, least), strict=True))
    return scale, offset


def _near_pairs(sums: _Sums, d: Tensor, dmin: Tensor) -> tuple[Tensor, Tensor]:
    """Whole scales and minima: of the two scales around the best, that with the least error, its best minimum beside it."""
    wanted = (_solved(*sums)[0] * _inverse(d)).floor_()
    tried = []
    for s in (wanted.clamp(0, 63), (wanted + 1).clamp(0, 63)):
        m = _whole(_ratio(d * s * sums.q - sums.x, sums.one), dmin, 0, 63)
        tried.append((s, m, sums.error(d * s, -dmin * m)))
    (s, m, error), (other_s, other_m, other_error) = tried
    return torch.where(other_error < error, other_s, s), torch.where(other_error < error, other_m, m)


def _whole(numbers: Tensor, unit: Tensor, lowest: int, highest: int) -> Tensor:
    return (numbers * _inverse(unit)).round_().clamp_(lowest, highest)


def _half(numbers: Tensor) -> Tensor:
    """As half precision holds them."""
    return numbers.half().float()


def _inverse(numbers: Tensor) -> Tensor:
    """1 / x; 0 where there is nothing to divide by."""
    return torch.where(numbers.abs() > _TINY, 1 / numbers, 0.0)


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return top * _inverse(bottom)


def _bytes(half: Tensor) -> Tensor:
    """… × 1 × 1 numbers in half precision to … × 2 bytes."""
    return half[..., 0].contiguous().view(torch.uint8)
