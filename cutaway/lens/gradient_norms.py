"""Where the gradient of a text's loss is large: by layer, and by layer and position.

Shapes: L layers, T positions, D model width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.lens.hooks import capture
from cutaway.lens.layers import Input, ids_of, layer_names, layer_output, text_loss


@dataclass(frozen=True)
class GradientNorms:
    """Euclidean norms of the gradient of the mean loss.

    Args:
        loss: in nats per token.
        layers: the names of the blocks, L.
        weights: of the gradient by each block's parameters, L.
        stream_LT: of the gradient by what each block puts out, at each position.
        embedding_T: of the gradient by the embedding's row of each position's token; what the head shares with it included.
    """

    loss: float
    layers: list[str]
    weights: list[float]
    stream_LT: Tensor
    embedding_T: Tensor


def gradient_norms(model: Any, x: Input) -> GradientNorms:
    """One pass over a text and back; the model's own `.grad` stay as they are."""
    names = layer_names(model, x)
    blocks = [list(model.get_submodule(name).parameters()) for name in names]
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        with capture(model, names) as calls, torch.enable_grad():
            loss = text_loss(model, x)
        streams = [layer_output(calls[name]) for name in names]
        embedding = model.embedding.weight
        wanted = [*streams, embedding, *(weight for block in blocks for weight in block)]
        grads = list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
    stream_LT = torch.stack([grad.flatten(0, -2).norm(dim=-1) for grad in grads[: len(names)]])
    of_weights = iter(grads[len(names) + 1 :])
    return GradientNorms(
        float(loss.detach()),
        names,
        [float(torch.nn.utils.get_total_norm([next(of_weights) for _ in block])) for block in blocks],
        stream_LT,
        grads[len(names)][ids_of(x)[0]].norm(dim=-1),
    )
