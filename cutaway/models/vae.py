"""A variational auto-encoder of vectors in [0, 1], such as the pixels of digits (Kingma & Welling 2014, appendix C).

Encoder and decoder are multi-layer perceptrons with tanh; the pixels are Bernoulli variables. `loss.variational` has the bound.

Shapes: B batch, N observed dimensions, Z latent dimensions.
"""

from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.loss.variational import reparameterise

MODEL_TYPES = ("vae",)


class VAEConfig(Config):
    """The shape of a model."""

    model_type: Literal["vae"] = "vae"
    vector_size: int = Field(64, gt=0, description="N; 8 × 8 pixels by default")
    latent_size: int = Field(8, gt=0, description="Z")
    hidden_sizes: tuple[PositiveInt, ...] = Field((256,), description="of the encoder; the decoder has them in reverse")
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="channels, height and width, where the vectors are images"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "VAEConfig":
        if self.image_shape and prod(self.image_shape) != self.vector_size:
            shape = " × ".join(map(str, self.image_shape))
            raise ValueError(f"vector_size is {self.vector_size} and image_shape {shape}")
        return self


class GaussianHead(nn.Module):
    """The mean and the logarithm of the variance of q(z | x), B × Z each, from features of x."""

    def __init__(self, width: int, latent: int):
        super().__init__()
        self.mean, self.logvar = nn.Linear(width, latent), nn.Linear(width, latent)

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x_BD), self.logvar(x_BD)


class VAE(nn.Module):
    """A variational auto-encoder with random weights."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        N, Z, hidden = config.vector_size, config.latent_size, config.hidden_sizes
        self.encoder = _perceptron(N, *hidden)
        self.head = GaussianHead((N, *hidden)[-1], Z)
        self.decoder = _perceptron(Z, *reversed(hidden), N)[:-1]  # logits: no tanh after the last

    def tie(self) -> None:
        """Nothing is shared."""

    def encode(self, x_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), B × Z each."""
        return self.head(self.encoder(x_BN))

    def decode(self, z_BZ: Tensor) -> Tensor:
        """The logits of p(x | z), B × N; their sigmoid is the mean of x."""
        return self.decoder(z_BZ)

    def forward(self, x_BN: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of x from one sample of z, and the mean and log-variance it was drawn with."""
        mean_BZ, logvar_BZ = self.encode(x_BN)
        return self.decode(reparameterise(mean_BZ, logvar_BZ, generator)), mean_BZ, logvar_BZ

    @torch.inference_mode()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The means of x for z drawn from the prior, count × N."""
        weight = self.head.mean.weight
        z_BZ = torch.randn(count, len(weight), generator=generator, device=weight.device, dtype=weight.dtype)
        return self.decode(z_BZ).sigmoid()


def _perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with a tanh after each."""
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())))


def config_from_hf(values: dict[str, Any]) -> VAEConfig:
    """Read a `config.json`; there is no such family in transformers, so ours is the only writer."""
    return VAEConfig.model_validate({name: values[name] for name in VAEConfig.model_fields if name in values})


def config_to_hf(config: VAEConfig) -> dict[str, Any]:
    """What `config_from_hf` reads."""
    return {"architectures": ["VAE"], **config.model_dump()}


def build(config: VAEConfig) -> VAE:
    """A fresh model."""
    return VAE(config)
