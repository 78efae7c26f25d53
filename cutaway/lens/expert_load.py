"""Which experts a text's tokens go to. E experts."""

from typing import Any

import torch
from torch import Tensor

from cutaway.core.errors import ConfigError
from cutaway.lens.layers import Input, read_input
from cutaway.nn.experts import expert_layers, load


@torch.inference_mode()
def expert_load(model: Any, x: Input) -> dict[str, Tensor]:
    """The share of all assignments that each expert got (E, float32, sums to one), by the name of its layer; even is 1 / E.

    Raises:
        ConfigError: the model has no experts.
    """
    layers = expert_layers(model)
    if not layers:
        raise ConfigError(
            f"a {model.config.model_type} model without experts", field="model", hint="mixtral or qwen3_moe"
        )
    read_input(model, x)
    return {name: load(layer.routing) for name, layer in layers.items() if layer.routing is not None}
