"""How much memory a run will take, so that it is refused before it begins rather than killed half-way.

Weights, gradients and the optimiser are counted; activations are measured, by looking at what autograd keeps in one small
forward pass, and scaled to the batch.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from cutaway.core.device import free_memory
from cutaway.core.errors import ResourceError
from cutaway.train.gradients import autocast

_PROBE = 16  # positions of the small forward pass
_HEAD_BYTES = 3 * 4 * 2**22  # logits of one chunk in the loss, and what they are turned into
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


def training_memory(model: Any, rows: int, length: int, precision: torch.dtype) -> Memory:
    """All of it, for micro-batches of `rows` × `length` tokens."""
    static = static_memory(model)
    head = _HEAD_BYTES + model.embedding.weight.nbytes
    return Memory(
        static.weights,
        static.gradients,
        static.optimiser,
        int(activation_bytes_per_token(model, precision) * rows * length) + head,
    )


def activation_bytes_per_token(model: Any, precision: torch.dtype) -> float:
    """Bytes that autograd keeps for one token, measured on a row of 16."""
    device = next(model.parameters()).device
    ours = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours and not _is_weight_copy(tensor, shapes):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(1, _PROBE, dtype=torch.int64, device=device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        autocast(device, precision),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        model(ids)
    return sum(kept.values()) / _PROBE


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
            hint="lower data.rows (and raise loop.micro_batches), data.seq_len or the model's size, or use adapter=lora",
        )


def gigabytes(size: int) -> str:
    """Bytes as people say them.

    >>> gigabytes(1_530_000_000), gigabytes(2_000_000)
    ('1.5 GB', '2 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _is_weight_copy(tensor: torch.Tensor, shapes: set[tuple[int, ...]]) -> bool:
    """Whether it is a parameter in autocast's format, which does not grow with the batch."""
    return tuple(tensor.shape) in shapes or tuple(tensor.T.shape if tensor.dim() == 2 else ()) in shapes
