"""A run's checkpoint: a folder with the weights as others read them, and `training/` with what resuming needs besides.

    last/
      config.json model.safetensors tokenizer.json …     (or adapter files): what serving loads
      training/optimizer.safetensors                     the optimiser's moments, by parameter name
      training/state.json                                step, data position, random generators

Nothing is pickled. The folder appears whole or not at all; one that was there before stays until then.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cutaway.adapt.lora import LoraConfig
from cutaway.adapt.peft_files import fill_adapter, write_adapter
from cutaway.core.distributed import like, shared_folder, whole
from cutaway.core.errors import CheckpointError
from cutaway.core.seeds import random_state, restore_random_state
from cutaway.data.stream import Stream
from cutaway.models.huggingface import load_model, write_model
from cutaway.nn.expert_names import apart, together
from cutaway.text.tokenizer import Tokenizer


class WeightFiles(Protocol):
    """How the trained weights are written to and read from a folder, and what the folder with the result is called."""

    @property
    def name(self) -> str: ...
    def write(self, folder: Path) -> None: ...
    def read(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class FullWeights:
    """All weights of a model, as a Hugging Face folder with its tokeniser.

    Args:
        beside: what else its makers say, by the JSON file that says it; added to what stands there.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    name: str = "model"
    beside: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_model(self.model, self.tokenizer, folder)
        for name, values in self.beside.items():
            file = folder / name
            there = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            file.write_text(json.dumps({**there, **values}, indent=2), encoding="utf-8")

    def read(self, folder: Path) -> None:
        weight = next(self.model.parameters())
        ours = dict(self.model.named_parameters())
        saved = together(dict(load_model(folder, weight.dtype, weight.device).named_parameters()), ours)
        with torch.no_grad():
            for name, parameter in ours.items():
                parameter.copy_(like(saved[name], parameter))


@dataclass(frozen=True)
class AdapterWeights:
    """The LoRA adapters of a model, as a PEFT folder; `base` names the model they belong to."""

    model: nn.Module
    config: LoraConfig
    base: str
    name: str = "adapter"

    def write(self, folder: Path) -> None:
        write_adapter(self.model, self.config, folder, self.base)

    def read(self, folder: Path) -> None:
        fill_adapter(self.model, folder)


@dataclass
class Standing:
    """Where a run stands.

    Args:
        step: optimiser steps done.
        tokens: tokens read in training.
        best, best_step: lowest held-out loss so far, in nats, and the step it was found at.
        stale: evaluations since then.
    """

    step: int = 0
    tokens: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0


def save_weights(files: WeightFiles, folder: Path) -> None:
    """Write the weights alone, whole or not at all."""
    with shared_folder(folder) as temporary:
        files.write(temporary)


def save_checkpoint(
    folder: Path,
    files: WeightFiles,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: Stream,
    standing: Standing,
) -> None:
    """Write all that an uninterrupted run would have in memory.

    Raises:
        ResourceError: the disk is full; the checkpoint before is untouched.
    """
    with shared_folder(folder) as temporary:
        files.write(temporary)
        training = temporary / "training"
        training.mkdir()
        moments = _moments(model, optimizer)
        save_file(moments, training / "optimizer.safetensors")
        state: dict[str, Any] = {"standing": asdict(standing), "data": stream.state(), "random": random_state()}
        state["moments"] = sorted(moments)  # a parameter that got no gradient has none
        (training / "state.json").write_text(json.dumps(state), encoding="utf-8")


def load_training(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, stream: Stream) -> Standing:
    """Put back what `save_checkpoint` found besides the weights, which `WeightFiles.read` reads.

    Raises:
        CheckpointError: the checkpoint does not fit this run or is damaged.
    """
    try:
        state = json.loads((folder / "training" / "state.json").read_text(encoding="utf-8"))
        moments = load_file(folder / "training" / "optimizer.safetensors")
        standing, place, random = Standing(**state["standing"]), state["data"], state["random"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as err:
        raise CheckpointError(
            f"cannot be resumed: {err}", field="out", value=str(folder), hint="remove it to start anew"
        ) from None
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    _check_moments(folder, set(moments), set(state.get("moments", moments)), trained)
    for key in sorted({name.rpartition(":")[2] for name in moments}):  # all processes in one order
        for name, value in together(moments, [f"{name}:{key}" for name in trained]).items():
            parameter = trained[name.rpartition(":")[0]]
            optimizer.state[parameter][key] = like(value.max() if key == "step" else value, parameter)
    stream.restore(place)
    restore_random_state(random)
    return standing


def _check_moments(folder: Path, found: set[str], saved: set[str], trained: Mapping[str, nn.Parameter]) -> None:
    """Refuse an optimiser's file that lacks what was saved, or that belongs to other parameters."""
    ours = {
        part
        for name, parameter in trained.items()
        for part, _ in apart(name, torch.empty(()), parameter.shape[:1].numel())
    }
    for problem, names in (
        ("lacks", saved - found),
        ("is of parameters that do not train here:", {name for name in found if name.rpartition(":")[0] not in ours}),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"cannot be resumed: the optimiser's state {problem} {min(names)}{more}",
                field="out",
                value=str(folder),
                hint="remove it to start anew",
            )


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        part: tensor.cpu()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        for part, tensor in apart(f"{name}:{key}", whole(value), parameter.shape[:1].numel())
    }
