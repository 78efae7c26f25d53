"""Exact nearest neighbours by inner product, in memory: a fast pass in 8-bit integers, then the candidates in float32.

The fast pass reads the matrix once, so its bytes are its time. N passages, D width, C candidates.
"""

import functools

import torch
from torch import Tensor
from torch.nn.functional import linear

# Candidates beyond k; rounding to 8 bits moves the product of two unit vectors by about 0.0005 (standard deviation, D = 384).
EXTRA = 64


class ExactVectors:
    """Search among unit vectors.

    Args:
        vectors_ND: float32 rows of length 1.
    """

    def __init__(self, vectors_ND: Tensor):
        self.full_ND = vectors_ND.contiguous()
        self._int8 = multiplies_int8(vectors_ND.shape[1], vectors_ND.device)
        if self._int8:
            self._coarse_ND, self._scale_N = to_int8(self.full_ND)

    def search(self, query_D: Tensor, k: int, allowed_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inner products and rows of the `k` nearest, best first; `allowed_N` (boolean) leaves rows out."""
        coarse_N = self._coarse(query_D)
        if allowed_N is not None:
            coarse_N = coarse_N.masked_fill(~allowed_N, -torch.inf)
            k = min(k, int(allowed_N.sum()))
        k = min(k, len(coarse_N))
        candidates_C = coarse_N.topk(min(k + EXTRA, len(coarse_N))).indices
        exact_C = self.full_ND[candidates_C] @ query_D
        if allowed_N is not None:
            exact_C = exact_C.masked_fill(~allowed_N[candidates_C], -torch.inf)
        top = exact_C.topk(k)
        return top.values, candidates_C[top.indices]

    def _coarse(self, query_D: Tensor) -> Tensor:
        """Inner products up to rounding and a factor common to all rows."""
        if self._int8:
            query_1D, _ = to_int8(query_D[None])
            return torch._int_mm(query_1D, self._coarse_ND.t())[0] * self._scale_N
        return linear(query_D[None], self.full_ND)[0]


def to_int8(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as integers from -127 to 127, and the factor that gives it back."""
    scale_N = x_ND.abs().amax(1).clamp_min(1e-12) / 127
    return (x_ND / scale_N[:, None]).round_().to(torch.int8), scale_N


@functools.cache
def multiplies_int8(D: int, device: torch.device) -> bool:
    """Whether integer products are exact at their extremes; processors without VNNI saturate on the way."""
    if device.type != "cpu":
        return False
    extreme_1D = torch.full((1, D), 127, dtype=torch.int8)
    rows_2D = torch.cat((extreme_1D, -extreme_1D))
    return torch._int_mm(extreme_1D, rows_2D.t()).tolist() == [[127 * 127 * D, -127 * 127 * D]]
