"""PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`, readable by `peft` and written by it."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cutaway.adapt.lora import LoraConfig, adapted, add_lora, remove
from cutaway.core.distributed import like, whole
from cutaway.core.errors import CheckpointError
from cutaway.core.files import new_folder

_WEIGHT = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")


def save_adapter(model: nn.Module, config: LoraConfig, folder: Path, base: str = "") -> None:
    """Write the model's adapters; `base` names the model they belong to."""
    with new_folder(folder) as temporary:
        write_adapter(model, config, temporary, base)


def write_adapter(model: nn.Module, config: LoraConfig, folder: Path, base: str = "") -> None:
    """Write the adapter's files into a folder that exists; for callers that add files of their own."""
    tensors: dict[str, Tensor] = {}
    for name, module in adapted(model):
        for side in ("A", "B"):
            weight = whole(getattr(module, f"lora_{side}").detach()).to("cpu", torch.float32).contiguous()
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = weight
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    kind = model.config.model_type  # type: ignore[union-attr]
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "target_modules": sorted({name for name, _ in adapted(model)}),
        "bias": "none",
        "inference_mode": True,
        "fan_in_fan_out": kind == "gpt2",  # there transformers' layers are Conv1D, which store weights transposed
    }
    (folder / "adapter_config.json").write_text(json.dumps(values, indent=2))


def load_adapter(model: nn.Module, folder: Path) -> LoraConfig:
    """Put a saved adapter on a model.

    Raises:
        CheckpointError: not a LoRA folder, corrupt, or made for another model; the tensors that do not fit are named, and the
            model is as it was.
    """
    values, layers = _read(folder)
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    _refuse([name for name in layers if name not in linear], folder)
    try:
        config = LoraConfig(
            rank=values["r"],
            alpha=values.get("lora_alpha", values["r"]),
            dropout=values.get("lora_dropout", 0.0),
            targets=tuple(sorted(layers)),
            rank_stabilised=values.get("use_rslora", False),
        )
    except ValueError as err:
        raise CheckpointError(f"adapter_config.json: {err}", field="adapter", value=str(folder)) from None
    training = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    add_lora(model, config)
    try:
        _fill(model, layers, folder)
    except CheckpointError:
        remove(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(training[name])
        raise
    return config


def fill_adapter(model: nn.Module, folder: Path) -> None:
    """Give the adapters that a model has the weights of a saved one. They stay where they are: shared with other processes, and
    known to an optimiser.

    Raises:
        CheckpointError: not a LoRA folder, corrupt, or of other adapters; the tensors that do not fit are named.
    """
    _, layers = _read(folder)
    _refuse(sorted({name for name, _ in adapted(model)} ^ set(layers)), folder)
    _fill(model, layers, folder)


@torch.no_grad()
def _fill(model: nn.Module, layers: dict[str, dict[str, Tensor]], folder: Path) -> None:
    fitting, wrong = [], []
    for name, module in adapted(model):
        for side, parameter in (("A", module.lora_A), ("B", module.lora_B)):
            tensor = layers[name][side]
            if tensor.shape != parameter.shape or not torch.isfinite(tensor).all():
                wrong.append(
                    f"{name}.lora_{side} {list(tensor.shape)} instead of {list(parameter.shape)}, or not finite"
                )
            else:
                fitting.append((parameter, tensor))
    _refuse(wrong, folder)
    for parameter, tensor in fitting:
        parameter.copy_(like(tensor, parameter))


def _refuse(wrong: list[str], folder: Path) -> None:
    """Nothing, where nothing is wrong."""
    if wrong:
        raise CheckpointError(f"does not fit the model: {'; '.join(wrong[:8])}", field="adapter", value=str(folder))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """What `adapter_config.json` says, and both matrices of every layer."""
    try:
        values = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as err:
        missing = Path(str(err.filename or "adapter_model.safetensors")).name
        raise CheckpointError(f"holds no {missing}", field="adapter", value=str(folder)) from None
    except (OSError, ValueError, SafetensorError) as err:
        raise CheckpointError(f"is truncated or corrupt: {err}", field="adapter", value=str(folder)) from None
    if not isinstance(values, dict):
        raise CheckpointError("adapter_config.json is not a JSON object", field="adapter", value=str(folder))
    if values.get("peft_type") != "LORA" or not isinstance(values.get("r"), int):
        raise CheckpointError("only LoRA adapters are supported", field="adapter", value=values.get("peft_type"))
    unsupported = [
        name for name in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if values.get(name)
    ]
    if unsupported or values.get("bias", "none") != "none":
        raise CheckpointError(
            f"uses {', '.join(unsupported) or 'bias'}, which is not supported", field="adapter", value=str(folder)
        )
    layers: dict[str, dict[str, Tensor]] = {}
    found = {name: _WEIGHT.match(name) for name in tensors}
    for name, match in found.items():
        if match:
            layers.setdefault(match["layer"], {})[match["side"]] = tensors[name]
    strange = [name for name, match in found.items() if not match]
    _refuse(sorted(strange + [name for name, sides in layers.items() if set(sides) != {"A", "B"}]), folder)
    _refuse([] if layers else ["no tensors"], folder)
    return values, layers
