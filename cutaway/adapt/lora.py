"""LoRA (Hu et al. 2022): a frozen linear layer plus a trained product of two thin matrices.

    y = W x + (alpha / rank) · B A dropout(x)          A: rank × in, B: out × rank, B starts at zero

Modules are replaced in an ordinary model. The frozen layer stays as a child, so that every weight keeps its tensor; the
names of the two matrices are PEFT's (`lora_A`, `lora_B`).
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError, near_matches


class LoraConfig(Config):
    """What to adapt, and how much."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0, description="the product is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the adapter's input, in training")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear",
        description="ends of module names (q_proj, v_proj …), or all-linear: every linear layer but the head",
    )
    rank_stabilised: bool = Field(False, description="scale by alpha / √rank instead (Kalajdzievski 2023)")

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoraLinear(nn.Module):
    """A linear layer with its low-rank change.

    Args:
        base: the layer it stands in for; it is frozen.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale, self.merged = config.scale, False
        weight = base.weight
        # float32 whatever the model is in: the adapter is small, and its updates are smaller than bfloat16 can add.
        self.lora_A = nn.Parameter(torch.empty(config.rank, base.in_features, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.rank, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.dropout = nn.Dropout(config.dropout)
        self._original: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The frozen layer's weight."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if self.merged:
            return y
        a, b = self.lora_A.to(x.dtype), self.lora_B.to(x.dtype)
        return y + (self.dropout(x) @ a.T @ b.T) * self.scale

    def merge(self) -> None:
        """Add the product to the frozen weight."""
        if not self.merged:
            self._original = self.base.weight.detach().clone()
            change = (self.lora_B @ self.lora_A) * self.scale
            self.base.weight.data = (self.base.weight.data.float() + change.detach()).to(self.base.weight.dtype)
            self.merged = True

    def unmerge(self) -> None:
        """Put the frozen weight back, bit for bit."""
        if self.merged:
            assert self._original is not None
            self.base.weight.data, self._original, self.merged = self._original, None, False


def add_lora(model: nn.Module, config: LoraConfig) -> list[str]:
    """Freeze the model and give its target layers adapters; the names of the layers, in order.

    Raises:
        ConfigError: a target names no linear layer or a head tied to the embedding, or the model has adapters already.
    """
    if any(True for _ in adapted(model)):
        raise ConfigError("the model has LoRA adapters already", field="lora")
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if config.targets == "all-linear":
        lm_head = getattr(model, "lm_head", None)
        head = set(lm_head.modules()) if isinstance(lm_head, nn.Module) else set()
        names = [name for name, module in linear.items() if module not in head]
    else:
        names = [name for name in linear if any(_ends(name, target) for target in config.targets)]
        for target in config.targets:
            if not any(_ends(name, target) for name in linear):
                ends = {name.rpartition(".")[2] for name in linear}
                raise ConfigError(
                    "names no linear layer", field="lora.targets", value=target, hint=near_matches(target, ends)
                )
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name in names:
        if id(linear[name].weight) in embedded:
            raise ConfigError(
                "shares its weight with the embedding, which merging would change too", field="lora.targets", value=name
            )
    model.requires_grad_(False)
    for name in names:
        _replace(model, name, LoraLinear(linear[name], config))
    return names


def adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Name and module of every adapted layer."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def merge(model: nn.Module) -> None:
    """Add every adapter to its layer; the model computes the same with no extra work."""
    for _, module in adapted(model):
        module.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge` exactly."""
    for _, module in adapted(model):
        module.unmerge()


def fold(model: nn.Module) -> None:
    """Merge, and take the adapters out: an ordinary model again, with the change in its weights."""
    for name, module in list(adapted(model)):
        module.merge()
        _replace(model, name, module.base)


def remove(model: nn.Module) -> None:
    """Take the adapters out: the model as it was before `add_lora`."""
    for name, module in list(adapted(model)):
        module.unmerge()
        _replace(model, name, module.base)


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new.train(model.training))
