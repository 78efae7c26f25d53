"""The evidence lower bound of a variational auto-encoder and its terms (Kingma & Welling 2014), all in nats.

    log p(x) ≥ ELBO = E_q(z|x) [log p(x | z)] − KL(q(z | x) ‖ p(z)),     q(z | x) = N(mean, diag exp logvar),     p(z) = N(0, I)

Trained is −log p(x | z) + β KL, with β ≠ 1 for a β-VAE (Higgins et al. 2017), β that grows during training (Bowman et al. 2016,
section 3.1), and a KL that is not pressed below some nats per dimension ("free bits", Kingma et al. 2016, appendix C.8). Text
above all needs one of these, or its decoder learns to do without z.

Shapes: B batch, Z latent dimensions, N observed dimensions.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from cutaway.core.config import Config


class VariationalConfig(Config):
    """How the KL term is weighted in training."""

    beta: float = Field(1.0, ge=0, description="weight of the KL once it is fully on")
    anneal_steps: int = Field(0, ge=0, description="steps over which the weight grows from 0; 0: on from the start")
    free_nats: float = Field(0.0, ge=0, description="nats per latent dimension that cost a constant")


def reparameterise(mean_BZ: Tensor, logvar_BZ: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A sample of q as a differentiable function of its parameters: mean + σ ε (section 2.4); torch's generator by default."""
    noise = torch.randn(mean_BZ.shape, generator=generator, device=mean_BZ.device, dtype=mean_BZ.dtype)
    return mean_BZ + (logvar_BZ / 2).exp() * noise


def kl_gaussians(mean: Tensor, logvar: Tensor, other_mean: Tensor, other_logvar: Tensor) -> Tensor:
    """KL(N(mean, exp logvar) ‖ N(other…)) of every dimension by itself; of diagonal Gaussians these add up."""
    difference = logvar - other_logvar
    return (difference.exp() + (mean - other_mean).square() * (-other_logvar).exp() - 1 - difference) / 2


def kl_to_prior(mean_BZ: Tensor, logvar_BZ: Tensor) -> Tensor:
    """KL(q(z | x) ‖ N(0, I)) of every dimension, B × Z (Kingma & Welling 2014, appendix B)."""
    return (mean_BZ.square() + logvar_BZ.exp() - 1 - logvar_BZ) / 2


def bernoulli_nll(logits_BN: Tensor, x_BN: Tensor) -> Tensor:
    """−log p(x | z) of independent Bernoulli pixels, B; grey ones (0 < x < 1) count as a share of on and off."""
    return functional.binary_cross_entropy_with_logits(logits_BN, x_BN, reduction="none").sum(-1)


def free_bits(kl_BZ: Tensor, nats: float) -> Tensor:
    """Σ over dimensions of max(nats, KL of the dimension), with the KL averaged over the batch first, as the paper has it."""
    return kl_BZ.mean(0).clamp_min(nats).sum()


def beta_at(step: int, config: VariationalConfig) -> float:
    """The weight of the KL at a step counted from 0."""
    return config.beta * min(1.0, step / config.anneal_steps if config.anneal_steps else 1.0)


def variational_loss(
    nll: Tensor, mean_BZ: Tensor, logvar_BZ: Tensor, step: int = 0, config: VariationalConfig = VariationalConfig()
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """What is minimised, summed over the batch, and its parts per example.

    Args:
        nll: −log p(x | z) for one sample of z per example, summed over the batch.
        step: how far training is; for the weight of the KL.

    Returns:
        The loss and `nll`, `kl`, `elbo` (the bound itself, whatever the weight) and `beta`.
    """
    B, kl_BZ, beta = len(mean_BZ), kl_to_prior(mean_BZ, logvar_BZ), beta_at(step, config)
    kl = kl_BZ.sum()
    pressed = B * free_bits(kl_BZ, config.free_nats) if config.free_nats else kl
    means = {"nll": nll.detach() / B, "kl": kl.detach() / B, "elbo": -(nll + kl).detach() / B}
    return nll + beta * pressed, {**means, "beta": beta}


def active_units(mean_BZ: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions say something about x, Z: those whose mean varies over x (Burda et al. 2016, section 5.2)."""
    return mean_BZ.var(0) > threshold
