"""Singular values of weight matrices, and how many directions they use."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Spectrum:
    """Of one matrix.

    Args:
        name: the parameter's.
        shape: rows and columns.
        values: singular values, largest first.
    """

    name: str
    shape: tuple[int, int]
    values: Tensor

    @property
    def largest(self) -> float:
        """The spectral norm: by how much the matrix can stretch."""
        return float(self.values[0])

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the values' shares (Roy & Vetterli 2007): n where n directions count alike, 0 of zeros."""
        if not self.values.any():
            return 0.0
        shares = self.values / self.values.sum()
        return float(torch.special.entr(shares).sum().exp())

    @property
    def stable_rank(self) -> float:
        """‖W‖²_F / ‖W‖²₂ (Rudelson & Vershynin 2007): never above the rank, and not moved by tiny values; 0 of zeros."""
        if not self.values.any():
            return 0.0
        return float(self.values.square().sum() / self.values[0].square())


def spectrum(name: str, weight: Tensor) -> Spectrum:
    """The spectrum of one matrix, in float32 or wider."""
    weight = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    return Spectrum(name, (weight.shape[0], weight.shape[1]), torch.linalg.svdvals(weight))


def weight_spectra(model: nn.Module, under: str = "") -> list[Spectrum]:
    """Of every matrix of the model's linear, recurrent and convolutional layers and embeddings; one that is shared counts once.

    A kernel is a row for each channel that it puts out.

    Args:
        under: only modules whose name begins so.
    """
    matrices: dict[int, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        if not name.startswith(under):
            continue
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d):
            matrices.setdefault(id(module.weight), (name, module.weight.flatten(1)))
        elif isinstance(module, nn.RNNBase):
            for part, weight in module.named_parameters():
                if weight.dim() == 2:
                    matrices.setdefault(id(weight), (f"{name}.{part}", weight))
    return [spectrum(name, weight) for name, weight in matrices.values()]
