"""scikit-learn's handwritten digits: small images for labs that see."""

from functools import cache

import torch
from torch import Tensor


@cache
def handwritten() -> tuple[Tensor, Tensor]:
    """All 1,797, N × 8 × 8 with ink from 0 to 1, and which digit each is."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32), torch.tensor(found.target)
