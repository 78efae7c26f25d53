"""What passes through a model on an input, in four numbers per block and kind of module."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.lens.hooks import capture
from cutaway.lens.layers import Input, down_projections, layer_names, layer_output, read_input
from cutaway.nn.attention import Attend


@dataclass(frozen=True)
class Activations:
    """Of all numbers that modules of one kind put out in one block.

    Args:
        layer: the block, from 1.
        name: its module's.
        kind: `stream` what the block puts out, `norm`, `attention` (before the output projection), `linear`, or `units`
            (what a feed-forward network's last layer reads).
        mean, std: over all numbers.
        largest: the largest magnitude (one that stands far above std is a massive activation, Sun et al. 2024).
        zeros: the share that is exactly zero.
    """

    layer: int
    name: str
    kind: str
    mean: float
    std: float
    largest: float
    zeros: float


@torch.inference_mode()
def activations(model: Any, x: Input) -> list[Activations]:
    """One pass over an input (`lens.layers`) with hooks, which are gone afterwards."""
    blocks = layer_names(model, x)
    watched = {name: _watched(model.get_submodule(name)) for name in blocks}
    names = [f"{block}.{inner}".rstrip(".") for block in blocks for inner in watched[block]]
    with capture(model, names) as calls:
        read_input(model, x)
    found = []
    for layer, block in enumerate(blocks, 1):
        by_kind: dict[str, list[Tensor]] = defaultdict(list)
        for inner, kind in watched[block].items():
            call = calls.get(f"{block}.{inner}".rstrip("."))  # an expert that got no token was not called
            if call is not None:
                by_kind[kind].append(layer_output(call))
                if inner in down_projections(model.get_submodule(block)):
                    by_kind["units"].append(call.inputs[0])
        found += [Activations(layer, block, kind, **_numbers(outputs)) for kind, outputs in by_kind.items()]
    return found


def _watched(block: nn.Module) -> dict[str, str]:
    """Modules of a block whose output is looked at, and their kind."""
    kinds = {"": "stream"}
    for name, module in block.named_modules():
        if "Norm" in type(module).__name__:
            kinds[name] = "norm"
        elif isinstance(module, Attend):
            kinds[name] = "attention"
        elif isinstance(module, nn.Linear):
            kinds[name] = "linear"
    return kinds


def _numbers(outputs: list[Tensor]) -> dict[str, float]:
    values = torch.cat([output.flatten() for output in outputs]).double()
    return {
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        "largest": float(values.abs().max()),
        "zeros": float((values == 0).double().mean()),
    }
