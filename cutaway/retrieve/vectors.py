"""Exact nearest neighbours by inner product, in memory: a fast pass in few bits, then the candidates in float32.

The fast pass reads the matrix once, so its bytes are its time; bfloat16 halves them where the processor multiplies it.
N passages, D width, C candidates.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from cutaway.core.device import has_fast_bfloat16

EXTRA = 64  # candidates beyond k; the rounding of bfloat16 (2^-9 of a unit vector's products) moves ranks by few places


class ExactVectors:
    """Search among unit vectors.

    Args:
        vectors_ND: float32 rows of length 1.
    """

    def __init__(self, vectors_ND: Tensor):
        self.full_ND = vectors_ND.contiguous()
        fast = has_fast_bfloat16(vectors_ND.device)
        self._coarse_ND = self.full_ND.to(torch.bfloat16) if fast else self.full_ND

    def search(self, query_D: Tensor, k: int, allowed_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inner products and rows of the `k` nearest, best first; `allowed_N` (boolean) leaves rows out."""
        # As a product of matrices: PyTorch's matrix-vector product is slower in bfloat16.
        coarse_N = linear(query_D.to(self._coarse_ND.dtype)[None], self._coarse_ND)[0].float()
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
