"""A second model on the same memory."""

import copy

from torch import nn


def twin_of(model: nn.Module) -> nn.Module:
    """A model with modules and parameters of its own on the same memory.

    Hooks, adapters and `requires_grad` of the twin are not those of the model, so it can be looked at or adapted while the model
    serves.
    """
    shared: dict[int, object] = {id(weight): nn.Parameter(weight.detach(), False) for weight in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)
