"""Feed-forward units that an input never wakes.

Shapes: N tokens, F hidden units.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.lens.hooks import capture
from cutaway.lens.layers import Input, block_names, down_projections, read_input


@dataclass(frozen=True)
class Units:
    """The hidden units of one feed-forward network (of one expert, where there are experts).

    Args:
        layer: the block, from 1.
        name: the module that reads them.
        tokens: how many tokens came by; the units of an expert that got none are all dead.
        active_F: for each unit the share of tokens at which it was active.
    """

    layer: int
    name: str
    tokens: int
    active_F: Tensor

    @property
    def dead(self) -> list[int]:
        """The units that were active at no token."""
        return (self.active_F == 0).nonzero().flatten().tolist()


@torch.inference_mode()
def unit_activity(model: Any, x: Input, threshold: float = 0.0) -> list[Units]:
    """How often each hidden unit is active on an input (`lens.layers`).

    Args:
        threshold: a unit is active at a token where its magnitude is above so many root mean squares of all units there. 0 is
            right for ReLU; GELU and SiLU are never quite zero, and 0.01 tells those that hardly move.
    """
    found = []
    blocks = block_names(model, x)
    inner = {block: down_projections(model.get_submodule(block)) for block in blocks}
    with capture(model, [f"{block}.{name}" for block in blocks for name in inner[block]]) as calls:
        read_input(model, x)
    for layer, block in enumerate(blocks, 1):
        for name, module in inner[block].items():
            call = calls.get(f"{block}.{name}")
            if call is None:
                found.append(Units(layer, f"{block}.{name}", 0, torch.zeros(module.in_features)))
                continue
            hidden_NF = call.inputs[0].flatten(0, -2).float()
            awake_NF = hidden_NF.abs() > threshold * hidden_NF.square().mean(-1, keepdim=True).sqrt()
            found.append(Units(layer, f"{block}.{name}", len(hidden_NF), awake_NF.float().mean(0)))
    return found
