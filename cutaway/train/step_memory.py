"""What one process holds during a training step, by what it is.

memory of one process; R readers share the model (FSDP, Rajbhandari et al. 2020; Zhao et al. 2023), or R = 1. Of a model that is
split over processes (tensor parallelism), P counts what this one has
  weights       4 P / R
  gradients     4 P_trained / R
  optimiser     8 P_trained / R                          AdamW's two moments
  copies        of weights: autocast's, which autograd keeps; and where the model is shared, put together: two blocks, the
                gradient of one, what is outside the blocks, and gradients on their way
  activations   what autograd keeps, counted by running the model on fake tensors, × rows
  logits        what the loss holds at its most (`loss.language_modelling.held_bytes`)
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from cutaway.loss.language_modelling import held_bytes
from cutaway.train.blocks import all_blocks
from cutaway.train.footprint import Kept
from cutaway.train.parameters import active_shares

SLACK = 1.1
"""For the allocator. The parts came within 15 % of what is alive at the peak of a step of one process, and of two that share a
model within 10 % in bfloat16, up to 17 % below it in float32 (measured)."""


@dataclass(frozen=True)
class Sharing:
    """How a model lies on the processes of a run, as `shard.shard_model` puts it there.

    Args:
        readers: those that read different rows; each stores its part of every weight.
        experts: those of them that the experts of a layer are spread over.
        travel: the format in which blocks are put together.
    """

    readers: int
    experts: int = 1
    travel: torch.dtype = torch.float32


@dataclass(frozen=True)
class StepMemory:
    """Bytes in one process during a training step, by what they hold; see the top of this file."""

    weights: int
    gradients: int
    optimiser: int
    copies: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """With what a backward pass holds for a moment."""
        return int(SLACK * sum(getattr(self, field.name) for field in fields(self)))


def step_memory(
    model: Any,
    per_row: Kept,
    fixed: Kept,
    *,
    rows: int,
    length: int,
    precision: torch.dtype,
    checkpointing: bool,
    device_type: str = "cpu",
    sharing: Sharing | None = None,
) -> StepMemory:
    """Bytes in one process for micro-batches of `rows` rows.

    Args:
        per_row, fixed: of `footprint.kept_for_backward`, at this precision.
        length: positions of a row that the loss may supervise: those of the text, or of the target.
        precision: bfloat16 for autocast.
        device_type: where it will run; the model may be a fake.
        sharing: None: this process has all to itself.
    """
    weights = sum(weight.nbytes for weight in model.parameters())
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    readers = sharing.readers if sharing else 1
    copies = fixed.checkpointed if checkpointing else fixed.total
    if sharing:
        if sharing.travel != torch.float32:
            copies = fixed.outside  # blocks arrive in autocast's format
        copies += _put_together(model, sharing)
    return StepMemory(
        weights // readers,
        trained // readers,
        2 * trained // readers,
        copies,
        rows * (per_row.checkpointed if checkpointing else per_row.total),
        held_bytes(rows * length, model.embedding.weight, precision, device_type),
    )


def _put_together(model: Any, sharing: Sharing) -> int:
    """Two blocks and what is outside; the gradient of a block as it is made, and gradients on their way, in float32."""
    experts = active_shares(model)

    def here(weight: torch.Tensor) -> int:
        return weight.numel() // (sharing.experts if id(weight) in experts else 1)

    def trained(weights: Sequence[torch.Tensor]) -> int:
        return sum(here(weight) for weight in weights if weight.requires_grad)

    blocks = [list(block.parameters()) for block in all_blocks(model)]
    inside = {id(weight) for block in blocks for weight in block}
    outside = [weight for weight in model.parameters() if id(weight) not in inside]
    sizes, gradient = sorted(sum(map(here, block)) for block in blocks), max(map(trained, blocks))
    in_float32 = sum(map(here, outside)) + trained(outside) + gradient
    return sharing.travel.itemsize * (sum(sizes[-2:]) + gradient) + 4 * in_float32
