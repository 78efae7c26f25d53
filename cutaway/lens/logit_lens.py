"""The logit lens: read every layer's residual stream with the model's own last norm and output head (nostalgebraist 2020).

What comes out is the distribution the model would give if it ended there; at the last layer it is the model's own.
Shapes: L layers, T positions, D model width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from cutaway.lens.hooks import Call, capture
from cutaway.lens.layers import block_names


@torch.inference_mode()
def residual_stream(model: Any, ids_1T: Tensor) -> Tensor:
    """What each block puts out at every position of one sequence: L × T × D."""
    names = block_names(model)
    with capture(model, names) as calls:
        model(ids_1T)
    return torch.cat([calls[name].output for name in names])


def stream_at_end(model: Any, calls: dict[str, Call]) -> Tensor:
    """What each block put out at the last position of a recorded pass over one sequence: L × D."""
    return torch.stack([calls[name].output[0, -1] for name in block_names(model)])


@torch.inference_mode()
def logit_lens(model: Any, stream: Tensor) -> Tensor:
    """Log-probabilities (float32, … × V) of the next token, read from residual streams (… × D)."""
    return model.logits(model.final_norm(stream)).float().log_softmax(-1)
