"""Hugging Face folders: `config.json`, `*.safetensors` (one file, or shards with an index), tokeniser files.

Reading is strict: a tensor that is missing, unexpected, misshapen or not finite is an error that names it. Pickled weights are
refused, because opening one can run whatever its author wrote into it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cutaway.core.distributed import shared_folder, whole
from cutaway.core.errors import CheckpointError, UnsafeFileError
from cutaway.core.files import write_text
from cutaway.models.beside import Beside, read_beside
from cutaway.models.families import family
from cutaway.models.target_rules import GENERATION
from cutaway.nn.expert_names import apart
from cutaway.text.tokenizer import Tokenizer

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_SHOWN = 8


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a folder, with its family checked."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError("holds no config.json", field="model", value=str(folder)) from None
    except (OSError, ValueError) as err:
        raise CheckpointError(f"cannot be read: {err}", field="config.json", value=str(path)) from None
    if not isinstance(values, dict):
        raise CheckpointError("is not a JSON object", field="config.json", value=str(path))
    family(values.get("model_type"))
    return values


def model_config(values: dict[str, Any]) -> Any:
    """The family's frozen configuration from the values of a `config.json`."""
    module = family(values.get("model_type"))
    try:
        config = module.config_from_hf(values)
    except KeyError as err:
        raise CheckpointError("is required", field=f"config.json: {err.args[0]}") from None
    except (ValueError, TypeError, AttributeError) as err:  # a value of a kind that nothing there expects
        raise CheckpointError(str(err), field="config.json") from None
    return config


def load_model(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The model of a folder, in `dtype` on `device`, ready to run; `beside` is what else its makers say (`models.beside`)."""
    values = read_config(folder)
    module = family(values["model_type"])
    config = model_config(values)
    rename = getattr(module, "from_hf_tensors", lambda name, tensor, config: (name, tensor))

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for file in weight_files(folder):
            for name, tensor in read_safetensors(file):
                renamed = rename(name, tensor, config)
                if renamed is not None:
                    yield renamed

    model: Any = fill(module.build, config, tensors(), dtype, device, source=str(folder))
    model.beside = read_beside(folder, values)
    return model


def fill(
    build: Any,
    config: Any,
    tensors: Iterator[tuple[str, Tensor]],
    dtype: torch.dtype,
    device: torch.device,
    source: str,
) -> nn.Module:
    """Build the model without memory and give it the tensors, one at a time; complain by name about any that do not fit."""
    with torch.device("meta"), _Unfilled():
        model = build(config)
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(wanted)
    state: dict[str, Tensor] = {}
    too_large = f"too large for {str(dtype).removeprefix('torch.')}"
    problems: dict[str, list[str]] = {"unexpected": [], "misshapen": [], "not finite": [], too_large: []}
    for name, tensor in tensors:
        if name in tied:
            continue  # the checkpoint stores a shared tensor twice
        if name not in wanted:
            problems["unexpected"].append(name)
        elif tensor.shape != wanted[name]:
            problems["misshapen"].append(f"{name} {list(tensor.shape)} instead of {list(wanted[name])}")
        else:
            state[name] = tensor.to(device=device, dtype=dtype).contiguous()
            if not torch.isfinite(state[name]).all():
                problems[too_large if torch.isfinite(tensor).all() else "not finite"].append(name)
    bad = {name.split()[0] for names in problems.values() for name in names}
    problems["missing"] = [name for name in wanted if name not in state and name not in bad]
    found = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if found:
        raise CheckpointError("tensors do not fit the configuration; " + "; ".join(found), field="model", value=source)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie()
    return model.eval()


class _Unfilled(TorchFunctionMode):
    """Modules are made without their random start, which takes seconds to prepare even where there are no numbers."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in the order of its index."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as err:
            raise CheckpointError(f"cannot be read: {err!r}", field="index", value=str(index)) from None
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise CheckpointError(f"shards are missing: {_some(absent)}", field="model", value=str(folder))
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
    if pickles:
        raise refuse_pickle(folder / pickles[0])
    raise CheckpointError("holds no *.safetensors file", field="model", value=str(folder))


def refuse_pickle(path: Path) -> UnsafeFileError:
    """The error for a pickled checkpoint."""
    return UnsafeFileError(
        "is a pickle, which can run any code when it is opened; Cutaway does not open it",
        field="model",
        value=str(path),
        hint="convert it to safetensors where you trust it",
    )


def read_safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything in a file, read as they are asked for."""
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                yield name, opened.get_tensor(name)
    except (SafetensorError, OSError) as err:
        raise CheckpointError(f"is truncated or corrupt: {err}", field="model", value=str(file)) from None


def save_model(model: nn.Module, tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write a folder that `transformers` loads, whole or not at all."""
    with shared_folder(folder) as temporary:
        write_model(model, tokenizer, temporary)


def write_model(model: nn.Module, tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write the model's files into a folder that exists, with what its makers said beside them; for callers that add more."""
    config: Any = model.config
    module = family(config.model_type)
    rename = getattr(module, "to_hf_tensors", lambda name, tensor, config: (name, tensor))
    parts = (
        apart(name, whole(parameter.detach()), parameter.shape[:1].numel())
        for name, parameter in model.named_parameters()
    )
    named = dict(rename(name, tensor, config) for part in parts for name, tensor in part)
    state = {name: tensor.to("cpu").contiguous() for name, tensor in named.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    values = module.config_to_hf(config)
    beside: Beside = dict(getattr(model, "beside", {}))
    values["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")
    if tokenizer is not None:
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        # A tokeniser that lacks one says so, where the configuration has none of its own: readers would take their default.
        values.update({name: id for name, id in ids.items() if id is not None or values.get(name) is None})
        tokenizer.save(folder)
        if hasattr(model, "logits"):
            known: dict[str, Any] = {name: id for name, id in ids.items() if id is not None}
            if tokenizer.end_ids:
                known["eos_token_id"] = sorted(tokenizer.end_ids)
            if "decoder_start_token_id" in values:
                known["decoder_start_token_id"] = values["decoder_start_token_id"]
            beside[GENERATION] = {**beside.get(GENERATION, {}), **known}
    for name, stated in {"config.json": values, **beside}.items():
        write_text(folder / name, json.dumps(stated, indent=2))


def check_tokenizer(tokenizer: Tokenizer, model: nn.Module, source: str) -> None:
    """Refuse a tokeniser that can give ids which the model has no embedding for."""
    embedding: Any = model.embedding  # type: ignore[union-attr]
    if tokenizer.vocab_size > embedding.num_embeddings:
        raise CheckpointError(
            f"the tokeniser has {tokenizer.vocab_size} tokens and the model {embedding.num_embeddings} embeddings",
            field="model",
            value=source,
            hint="use the tokeniser that the model was trained with",
        )


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
