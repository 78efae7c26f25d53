"""The families: every file of this folder that names its `MODEL_TYPES` is one. The file system is the registry."""

import functools
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any, get_args, get_type_hints

from torch import nn

from cutaway import models
from cutaway.core.config import Config, make_config
from cutaway.core.errors import CheckpointError, ConfigError, near_matches


@functools.cache
def families() -> dict[str, ModuleType]:
    """`model_type` of `config.json` to the family's module."""
    names = [found.name for found in pkgutil.iter_modules(models.__path__)]
    modules = [import_module(f"cutaway.models.{name}") for name in names if name != "families"]
    return {kind: module for module in modules for kind in getattr(module, "MODEL_TYPES", ())}


def is_known(model_type: object) -> bool:
    """Whether there is such a family."""
    return isinstance(model_type, str) and model_type in families()


def family(model_type: object) -> ModuleType:
    """The module of a `model_type`; an unknown one lists what is known."""
    if not is_known(model_type):
        raise CheckpointError(
            "unsupported", field="model_type", value=model_type, hint=near_matches(str(model_type), families())
        )
    return families()[str(model_type)]


def config_class(module: ModuleType) -> type[Config]:
    """The configuration class of a family's module: what its `build` takes."""
    return get_type_hints(module.build)["config"]


def model_classes(module: ModuleType) -> tuple[type[nn.Module], ...]:
    """What a family's `build` makes; more than one where the configuration names a head."""
    made = get_type_hints(module.build)["return"]
    return get_args(made) or (made,)


def make_model(shape: dict[str, Any]) -> nn.Module:
    """A fresh model from `{"model_type": …, …}`; torch's generator gives the weights.

    >>> make_model({"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2}).context
    1024
    """
    kind = shape.get("model_type", "llama")
    if not is_known(kind):
        raise ConfigError("unknown", field="model_type", value=kind, hint=near_matches(str(kind), families()))
    module = families()[kind]
    return module.build(make_config(config_class(module), {**shape, "model_type": kind}))
