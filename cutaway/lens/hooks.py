"""See what modules of an ordinary model get and give, by name, for as long as a `with` block lasts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from cutaway.core.errors import ConfigError, near_matches


@dataclass(frozen=True)
class Call:
    """One call of a module: its positional arguments, and what it returned."""

    inputs: tuple[Any, ...]
    output: Any


@contextmanager
def capture(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Call]]:
    """Record the latest call of each named module; the hooks are gone when the block ends, whatever ends it.

        with capture(model, ["model.layers.3.mlp"]) as calls:
            model(ids_BT)
        calls["model.layers.3.mlp"].output

    Tensors are kept as they are, with their graph where autograd records one.

    Raises:
        ConfigError: the model has no module of that name.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise ConfigError(
                "the model has no such module", field="module", value=name, hint=near_matches(name, modules)
            )
    calls: dict[str, Call] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls[name] = Call(inputs, output)

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def module_names(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    """The names of all modules of one class, in the order of the model."""
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


def name_of(model: nn.Module, module: nn.Module) -> str:
    """The name of a module of the model."""
    return next(name for name, found in model.named_modules() if found is module)
