"""AdamW (Loshchilov & Hutter 2019), PyTorch's, with its parameter groups and penalties."""

import torch
from pydantic import Field
from torch import nn

from cutaway.core.config import Config
from cutaway.core.distributed import by_mesh
from cutaway.optim.groups import decayed_weights, parameter_groups
from cutaway.optim.penalty import add_penalty
from cutaway.optim.schedule import ScheduleConfig


class OptimConfig(Config):
    """The optimiser and its schedule."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    l1: float = Field(0.0, ge=0, description="weight of Σ |w|, of the matrices that decay; leaves exact zeros")
    l2: float = Field(
        0.0, ge=0, description="weight of ½ Σ w², in the gradient: not the same as weight decay under Adam"
    )
    decay_embeddings: bool = Field(False, description="let decay and penalties act on embeddings (and tied heads) too")
    clip: float | None = Field(1.0, gt=0, description="the most the global gradient norm may be; null: no clipping")
    schedule: ScheduleConfig = ScheduleConfig()


def make_adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that train, one fused pass per step, and what is penalised beside the loss."""
    groups = [
        {**group, "params": alike}
        for group in parameter_groups(model, config.weight_decay, decay_embeddings=config.decay_embeddings)
        for alike in by_mesh(group["params"])
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    add_penalty(optimizer, decayed_weights(model, config.decay_embeddings), config.l1, config.l2)
    return optimizer
