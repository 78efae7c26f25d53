"""An ordinary model's matrices become quantised ones, by surgery: its modules stay, their weights are `QuantTensor`s.

Linear layers and embeddings are quantised; norms, biases, convolutions and whatever else a model holds stay, in float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.quant.encode import encode
from cutaway.quant.formats import FORMATS
from cutaway.quant.tensor import QuantTensor

Name = Literal["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"]
# For matrices whose columns do not fill blocks of 256, as llama.cpp does: a little more bits rather than less.
_NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


class QuantConfig(Config):
    """Which formats a model's matrices are stored in."""

    format: Name = Field(
        "Q4_K", description="of linear layers; Q4_K, Q5_K, Q6_K: where rows are a multiple of 256 wide"
    )
    embedding: Name = Field("Q8_0", description="of embeddings and of the output head, which bear fewer bits badly")


@dataclass(frozen=True)
class Target:
    """A matrix that is quantised.

    Args:
        name: of the parameter.
        modules: those that hold it: more than one where they share it.
        format: a name of `FORMATS`.
    """

    name: str
    modules: tuple[nn.Module, ...]
    format: str

    @property
    def weight(self) -> Tensor:
        return self.modules[0].weight.detach()  # type: ignore[union-attr, operator]

    @property
    def layer(self) -> nn.Linear | None:
        """The linear layer that alone holds it; None for an embedding, tied to the head or not."""
        alone = self.modules[0]
        return alone if len(self.modules) == 1 and isinstance(alone, nn.Linear) else None

    def replace(self, blocks: Tensor) -> None:
        """Put rows of blocks in the place of the weights."""
        weight = nn.Parameter(QuantTensor.read(blocks, FORMATS[self.format]), requires_grad=False)
        for module in self.modules:
            module.weight = weight


@dataclass(frozen=True)
class Quantised:
    """What became of a model.

    Args:
        formats: format of each quantised parameter, by its name.
        left: parameters of two axes or more that stayed, and why.
    """

    formats: dict[str, str]
    left: dict[str, str]


def quantise(
    model: nn.Module, config: QuantConfig = QuantConfig(), encoder: Callable[[Target], Tensor] | None = None
) -> Quantised:
    """Quantise a model in place; what is not quantised becomes float32.

    Args:
        model: of any family whose matrices are in `nn.Linear` and `nn.Embedding`.
        encoder: a target's rows of blocks; by default the nearest that the format has (`encode`).

    Raises:
        ConfigError: nothing in the model can be quantised, or a weight is no finite number.
    """
    targets, left = plan(model, config)
    if not targets:
        raise ConfigError("has no matrix that this format can hold", field="format", value=config.format)
    for target in targets:
        blocks = encoder(target) if encoder else encode(target.weight, target.format)
        target.replace(blocks)
        if not torch.isfinite(target.weight).all():
            raise ConfigError("holds weights beyond what the format can", field=target.name, value=target.format)
    model.float()
    return Quantised({target.name: target.format for target in targets}, left)


def plan(model: nn.Module, config: QuantConfig) -> tuple[list[Target], dict[str, str]]:
    """What would be quantised, in the model's order, and why the rest would not."""
    head: Any = getattr(model, "output", None)
    holders: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        if type(module) in (nn.Linear, nn.Embedding):
            holders.setdefault(id(module.weight), []).append(module)
    targets, left = [], {}
    for name, parameter in model.named_parameters():
        modules = holders.get(id(parameter), [])
        apart = any(isinstance(module, nn.Embedding) or module is head for module in modules)
        wanted = config.embedding if apart else config.format
        format = next(_fitting(wanted, parameter.shape[-1] if parameter.dim() else 0), None)
        if modules and format and not isinstance(parameter.data, QuantTensor):
            targets.append(Target(name, tuple(modules), format))
        elif parameter.dim() > 1:
            left[name] = _why(parameter, bool(modules))
    return targets, left


def _fitting(wanted: str, columns: int) -> Iterator[str]:
    return (name for name in (wanted, _NARROW.get(wanted, wanted)) if columns % FORMATS[name].columns == 0)


def _why(parameter: nn.Parameter, held: bool) -> str:
    if isinstance(parameter.data, QuantTensor):
        return f"is {parameter.data.format.name} already"
    return (
        f"{parameter.shape[-1]} columns are no multiple of 32" if held else "is in neither nn.Linear nor nn.Embedding"
    )
