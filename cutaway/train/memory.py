"""How much memory a run will take, so that it is refused before it begins rather than killed half-way.

Weights, gradients and the optimiser are counted; activations are measured, by looking at what autograd keeps in the forward
pass of one row, and scaled to the batch.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cutaway.core.device import free_memory
from cutaway.core.errors import ResourceError
from cutaway.data.batch import Rows
from cutaway.loss.language_modelling import held_bytes
from cutaway.train.blocks import all_blocks
from cutaway.train.gradients import autocast
from cutaway.train.objectives import Objective
from cutaway.train.recompute import recomputed_blocks

_SLACK = 1.3  # what backward passes hold for a moment, and the allocator (measured: 1.25 to 1.35 over what is counted)


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes, by what they hold."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return int(_SLACK * sum(getattr(self, field.name) for field in fields(self)))

    def __str__(self) -> str:
        parts = ", ".join(f"{field.name} {gigabytes(getattr(self, field.name))}" for field in fields(self))
        return f"{gigabytes(self.total)} ({parts})"


def static_memory(model: nn.Module) -> Memory:
    """What does not depend on the batch; a model on the `meta` device costs nothing to ask about."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = sum(parameter.nbytes for parameter in trained)
    return Memory(sum(p.nbytes for p in model.parameters()), gradients, 2 * gradients, 0)


def training_memory(
    model: Any, objective: Objective, batch: Rows, capacity: int, precision: torch.dtype, checkpointing: bool = False
) -> Memory:
    """All of it, for micro-batches of up to `capacity` tokens; `batch` is one of them, for a look."""
    static = static_memory(model)
    head = model.embedding.weight if hasattr(model, "embedding") else None
    loss = 0 if head is None else held_bytes(capacity, head, precision, head.device.type)
    row = batch.rows(0, 1)
    kept = activation_bytes(model, objective, row, precision)
    if checkpointing:  # the inputs of the blocks, and one block at a time
        with recomputed_blocks(model, True):
            kept = activation_bytes(model, objective, row, precision) + kept // len(all_blocks(model))
    per_position = kept / row.n_positions
    return Memory(static.weights, static.gradients, static.optimiser, int(per_position * capacity) + loss)


def activation_bytes(model: Any, objective: Objective, batch: Rows, precision: torch.dtype) -> int:
    """Bytes that autograd keeps for a batch."""
    device = next(model.parameters()).device
    weights = _Weights(model)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor not in weights:
            kept[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        weights,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        autocast(device, precision),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        objective(model, batch.to(device))
    return sum(kept.values())


def refuse_if_too_large(memory: Memory, device: torch.device, held: int = 0) -> None:
    """Compare with what is free.

    Args:
        held: bytes of the estimate that are taken already (a loaded model's weights).

    Raises:
        ResourceError: it will not fit; names what to lower.
    """
    free = free_memory(device)
    if memory.total - held > free:
        raise ResourceError(
            f"training needs about {memory}; {gigabytes(free + held)} are free",
            hint="lower data.rows (and raise loop.micro_batches), data.seq_len or the model's size; "
            "loop.checkpointing=true, adapter=lora",
        )


def gigabytes(size: int) -> str:
    """Bytes as people say them.

    >>> gigabytes(1_530_000_000), gigabytes(2_000_000)
    ('1.5 GB', '2 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


class _Weights(TorchDispatchMode):
    """The parameters, and what is made of them while this is open: copies in another format, which do not grow with the batch."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.known = {_place(parameter): parameter.data for parameter in model.parameters()}

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return _place(tensor) in self.known

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and args[0] in self:
            self.known[_place(made)] = made  # kept, so that nothing else takes its place
        return made


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
