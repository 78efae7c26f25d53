"""LoRA adapters that are served beside their model, each under a name of its own."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from cutaway.adapt.peft_files import load_adapter
from cutaway.core.errors import ConfigError
from cutaway.models.load import Loaded
from cutaway.models.twin import twin_of


def load_adapters(loaded: Loaded, given: Sequence[str]) -> dict[str, nn.Module]:
    """Models by name, on the same weights, each with one adapter.

    Args:
        loaded: one without a name is put on this model itself.
        given: `name=folder` or `folder` each.

    Raises:
        ConfigError: a name that is taken, or two without one. CheckpointError: an adapter that does not fit.
    """
    found: dict[str, nn.Module] = {}
    own = [one for one in given if "=" not in one]
    if len(own) > 1 or (own and len(given) > 1):
        raise ConfigError("all of several need names: NAME=FOLDER", field="adapter", value=own[-1])
    for folder in own:
        load_adapter(loaded.model, Path(folder))
    for name, _, folder in (one.partition("=") for one in given if "=" in one):
        if name in ("", loaded.name, *found):
            raise ConfigError("is no name for another model", field="adapter", value=name)
        found[name] = twin_of(loaded.model)
        load_adapter(found[name], Path(folder))
        found[name].eval()
    return found
