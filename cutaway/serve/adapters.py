"""LoRA adapters that are served beside their model, each under a name of its own."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from cutaway.adapt.peft_files import load_adapter
from cutaway.core.errors import ConfigError
from cutaway.models.load import Loaded
from cutaway.models.twin import twin_of


def load_adapters(loaded: Loaded, named: Sequence[str]) -> dict[str, nn.Module]:
    """Models by name, on the same weights, each with one adapter.

    Args:
        named: `name=folder` each.

    Raises:
        ConfigError: not of that form, or a name that is taken. CheckpointError: an adapter that does not fit.
    """
    found: dict[str, nn.Module] = {}
    for one in named:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise ConfigError("must be NAME=FOLDER", field="adapter", value=one)
        if name in (loaded.name, *found):
            raise ConfigError("two models would have this name", field="adapter", value=name)
        found[name] = twin_of(loaded.model)
        load_adapter(found[name], Path(folder))
        found[name].eval()
    return found
