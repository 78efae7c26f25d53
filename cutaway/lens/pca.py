"""Principal components of vectors, and whether they all point the same way.

Shapes: N vectors, D their width, K components.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.errors import ConfigError


@dataclass(frozen=True)
class PCA:
    """The directions in which vectors vary most.

    Args:
        mean_D: what was taken off.
        components_KD: orthonormal directions, the widest first; each points to the side of its largest entry.
        variances_K: along each, with N - 1 in the denominator.
        total: variance in all directions.
    """

    mean_D: Tensor
    components_KD: Tensor
    variances_K: Tensor
    total: float

    @property
    def explained(self) -> Tensor:
        """The share of the variance along each component, K."""
        return self.variances_K / self.total if self.total else torch.zeros_like(self.variances_K)

    def project(self, x_ND: Tensor) -> Tensor:
        """Coordinates along the components, N × K."""
        return (x_ND.to(self.mean_D.dtype) - self.mean_D) @ self.components_KD.T

    def restore(self, y_NK: Tensor) -> Tensor:
        """The nearest vectors that have these coordinates, N × D."""
        return y_NK @ self.components_KD + self.mean_D


def pca(x_ND: Tensor, k: int | None = None) -> PCA:
    """Principal components by the SVD of the centred vectors (Pearson 1901; Jolliffe 2002, section 3.5), in float32 or wider.

    Args:
        k: how many components; by default all there are, min(N, D).

    Raises:
        ConfigError: fewer than two vectors, or a `k` that does not exist.
    """
    N, D = x_ND.shape
    if N < 2:
        raise ConfigError("principal components need two vectors at the least", field="text", value=f"{N} tokens")
    k = min(N, D) if k is None else k
    if not 1 <= k <= min(N, D):
        raise ConfigError("no such number of components", field="k", value=k, hint=f"1 to {min(N, D)}")
    x_ND = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
    mean_D = x_ND.mean(0)
    _, values, components = torch.linalg.svd(x_ND - mean_D, full_matrices=False)
    variances = values.square() / (N - 1)
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return PCA(mean_D, (components * largest.sign())[:k], variances[:k], float(variances.sum()))


def anisotropy(x_ND: Tensor) -> float:
    """The mean cosine of two different vectors (Ethayarajh 2019): near 0 where they point everywhere, 1 where all agree.

    Σ_i≠j u_i·u_j = |Σ u|² - Σ |u|² for the unit vectors u, so no N × N table is made; a vector of zeros agrees with none.
    """
    unit_ND = torch.nn.functional.normalize(x_ND.detach().double(), dim=-1)
    N = len(unit_ND)
    if N < 2:
        raise ConfigError("a mean cosine needs two vectors at the least", field="text", value=f"{N} tokens")
    return float((unit_ND.sum(0).square().sum() - unit_ND.square().sum()) / (N * (N - 1)))
