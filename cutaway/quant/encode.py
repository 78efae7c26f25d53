"""Weights in floating point to rows of blocks, as a GGUF file holds them.

Shapes: R rows, N blocks of a row, G groups of a block, C columns of a group.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.quant import fit
from cutaway.quant.fit import Fit, nearest
from cutaway.quant.formats import FORMATS, Blocks, Plain

_CHUNK = 1 << 19  # weights that are looked at together: as many as stay near the processor


@dataclass(frozen=True)
class Rule:
    """How a format's codes are found.

    Args:
        group: columns that share a scale.
        lowest, highest: codes that are used.
        fit: weights and importance, … × G × C, to what stands about the codes.
    """

    group: int
    lowest: int
    highest: int
    fit: Callable[[Tensor, Tensor], Fit]


RULES = {
    "Q4_0": Rule(32, 0, 15, lambda x, w: fit.symmetric(x, w, 8, 0, 15)),
    "Q4_1": Rule(32, 0, 15, lambda x, w: fit.affine(x, w, 15)),
    "Q5_0": Rule(32, 0, 31, lambda x, w: fit.symmetric(x, w, 16, 0, 31)),
    "Q5_1": Rule(32, 0, 31, lambda x, w: fit.affine(x, w, 31)),
    "Q8_0": Rule(32, 1, 255, lambda x, w: fit.symmetric(x, w, 128, 1, 255)),
    "Q4_K": Rule(32, 0, 15, lambda x, w: fit.nested_affine(x, w, 15)),
    "Q5_K": Rule(32, 0, 31, lambda x, w: fit.nested_affine(x, w, 31)),
    "Q6_K": Rule(16, 0, 63, lambda x, w: fit.nested_symmetric(x, w, 32, 63)),
}
"""By the format's name; numbers of 16 bits need none."""


def encode(weights_RC: Tensor, name: str, importance_C: Tensor | None = None) -> Tensor:
    """Rows of blocks, R × bytes.

    Args:
        weights_RC: the columns are a multiple of the format's.
        name: of `FORMATS`.
        importance_C: by how much an error in each column counts; all the same by default.
    """
    format = FORMATS[name]
    if isinstance(format, Plain):
        return weights_RC.to(format.dtype).contiguous().view(torch.uint8)
    assert isinstance(format, Blocks)
    rule, together = RULES[name], format.together
    importance = (torch.ones(1) if importance_C is None else importance_C.float()).expand(weights_RC.shape[1])
    importance = importance.view(-1, format.columns // rule.group, rule.group)
    parts = []
    for part in weights_RC.split(max(1, _CHUNK // weights_RC.shape[1])):
        x = part.float().view(len(part), -1, format.columns // rule.group, rule.group)
        found = rule.fit(x, importance)
        codes = nearest(x, found.scale, found.offset, rule.lowest, rule.highest).flatten(-2).to(torch.uint8)
        parts.append(together(codes, found.numbers).flatten(1))
    return torch.cat(parts)
