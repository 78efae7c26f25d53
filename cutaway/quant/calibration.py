"""Quantising by what each linear layer reads of a text: an encoder for `quantise` that rounds by `gptq`.

Shapes: N positions, C columns.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cutaway.quant.encode import encode
from cutaway.quant.gptq import gptq
from cutaway.quant.quantise import Target

MOST_BYTES = 2 << 30


class Calibrated:
    """The encoder. H = Σ x xᵀ of as many layers as fit into memory is collected in one reading of the text; a further reading,
    for the layers after them, is the half-quantised model's.

    Args:
        targets: all that will be quantised, in order.
        read: runs the model on the text.
        most_bytes: of H at a time; one layer is always collected.
    """

    def __init__(self, targets: Sequence[Target], read: Callable[[], None], most_bytes: int = MOST_BYTES):
        self._left, self._read, self._most = list(targets), read, most_bytes
        self._inputs: dict[str, Tensor | None] = {}

    def __call__(self, target: Target) -> Tensor:
        """Rows of blocks; embeddings, and layers that did not run, get the nearest codes."""
        if target.name not in self._inputs:
            self._collect()
        inputs_CC = self._inputs.pop(target.name)
        if inputs_CC is None:
            return encode(target.weight, target.format)
        return gptq(target.weight, inputs_CC, target.format)

    def _collect(self) -> None:
        some: list[Target] = []
        size = 0
        while self._left and (not some or size < self._most):
            some.append(self._left.pop(0))
            size += 4 * some[-1].weight.shape[1] ** 2 * (some[-1].layer is not None)
        sums = inputs_of([target.layer for target in some if target.layer is not None], self._read)
        self._inputs = {target.name: sums.get(target.layer) for target in some}


@torch.inference_mode()
def inputs_of(layers: Sequence[nn.Module], read: Callable[[], None]) -> dict[nn.Module | None, Tensor]:
    """Σ x xᵀ over what each of the layers read, C × C in float32; of those that ran."""
    sums: dict[nn.Module | None, Tensor] = {}

    def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x_NC = args[0].reshape(-1, args[0].shape[-1]).float()
        sums[layer] = sums[layer].addmm_(x_NC.T, x_NC) if layer in sums else x_NC.T @ x_NC

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        read()
    finally:
        for hook in hooks:
            hook.remove()
    return sums
