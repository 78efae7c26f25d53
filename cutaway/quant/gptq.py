"""Codes that make up for each other's errors, by what the layer reads: GPTQ (Frantar et al. 2022, algorithm 1).

Columns are rounded one after another, and the error of each is spread over those to come so that the layer's outputs on a text
change least: with H = Σ x xᵀ over its inputs and U the upper Cholesky factor of H⁻¹, rounding column j to q takes
(w − q) / U[j, j] · U[j, k] from every column k after it.

Ours differs from the paper in two places. Scales are searched block by block (`fit`), on the columns as they have become by then,
with H's diagonal as importance. And H gets a share of its own diagonal and of that diagonal's median, instead of its mean:
features a thousand times as large as the others (Sun et al. 2024) would otherwise set the damping for all.

Shapes: R rows, C columns, W columns of a block.
"""

import torch
from torch import Tensor

from cutaway.quant.encode import RULES, encode
from cutaway.quant.fit import nearest
from cutaway.quant.formats import FORMATS, Blocks

DAMPING = 0.3  # of H's diagonal, and of its median, added to it; chosen on SmolLM2


def gptq(weights_RC: Tensor, inputs_CC: Tensor, name: str, damping: float = DAMPING) -> Tensor:
    """Rows of blocks, R × bytes.

    Args:
        weights_RC: the columns are a multiple of the format's.
        inputs_CC: H, up to a factor.
        name: of `FORMATS`; numbers of 16 bits are only rounded.
    """
    format = FORMATS[name]
    if not isinstance(format, Blocks) or not inputs_CC.any():
        return encode(weights_RC, name)
    rule, width = RULES[name], format.columns
    left_CR, U_CC = weights_RC.float().T.clone(), _factor(inputs_CC, damping)
    importance_C = inputs_CC.diagonal() / inputs_CC.diagonal().mean()
    rows = []
    for start in range(0, len(left_CR), width):
        here = slice(start, start + width)
        block_WR, U_WW = left_CR[here], U_CC[here, here]
        found = rule.fit(
            block_WR.T.reshape(-1, 1, width // rule.group, rule.group), importance_C[here].view(-1, rule.group)
        )
        scale, offset = (part.flatten(1).repeat_interleave(rule.group, 1).T for part in (found.scale, found.offset))
        codes_WR, error_WR = torch.empty_like(block_WR), torch.empty_like(block_WR)
        for j in range(width):
            codes_WR[j] = nearest(block_WR[j], scale[j], offset[j], rule.lowest, rule.highest)
            error_WR[j] = (block_WR[j] - (scale[j] * codes_WR[j] + offset[j])) / U_WW[j, j]
            block_WR[j + 1 :] -= torch.outer(U_WW[j, j + 1 :], error_WR[j])
        left_CR[here.stop :] -= U_CC[here, here.stop :].T @ error_WR
        rows.append(format.together(codes_WR.T[:, None].to(torch.uint8), found.numbers).flatten(1))
    return torch.cat(rows, 1)


def _factor(inputs_CC: Tensor, damping: float) -> Tensor:
    """U; columns of which nothing was ever read stand alone."""
    H = inputs_CC.double()
    silent = H.diagonal() <= 0
    H = H + torch.diag(damping * (H.diagonal() + H.diagonal().median()) + silent)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True).float()
