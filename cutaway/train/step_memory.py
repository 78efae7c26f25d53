"""What one device holds during a training step, by what it is.

memory of one device, with N devices that share the model (FSDP, Rajbhandari et al. 2020; Zhao et al. 2023) or N = 1
  weights       4 P / N
  gradients     4 P_trained / N
  optimiser     8 P_trained / N                          AdamW's two moments
  copies        of weights: autocast's, which autograd keeps; and where N > 1, gathered: two blocks, what is outside the
                blocks, and the gradient of one block
  activations   what autograd keeps, counted by running the model on fake tensors, × rows
  logits        one chunk in the loss, its softmax and its gradient, and the gradient of the head
"""

from dataclasses import dataclass, fields
from typing import Any

from cutaway.loss.language_modelling import chunk_positions
from cutaway.train.footprint import Kept

SLACK = 1.1  # for the allocator; the parts themselves came within 15 % of what is alive at a step's peak (measured)


@dataclass(frozen=True)
class StepMemory:
    """Bytes on one device during a training step, by what they hold; see the top of this file."""

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
    devices: int,
    checkpointing: bool,
) -> StepMemory:
    """Bytes on one device for micro-batches of `rows` rows of `length` tokens.

    Args:
        per_row, fixed: of `footprint.kept_for_backward`, at this precision.
        devices: how many share weights, gradients and the optimiser's state; 1: none is shared.
    """
    weights = sum(weight.nbytes for weight in model.parameters())
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    copies = fixed.checkpointed if checkpointing else fixed.total
    if devices > 1:
        blocks = sorted(sum(weight.nbytes for weight in block.parameters()) for block in model.blocks)
        copies += blocks[-1] + sum(blocks[-2:]) + weights - sum(blocks)
    head = model.embedding.weight
    V, D = head.shape
    chunk = chunk_positions(rows * length, V, D)
    return StepMemory(
        weights // devices,
        trained // devices,
        2 * trained // devices,
        copies,
        rows * (per_row.checkpointed if checkpointing else per_row.total),
        3 * 4 * chunk * V + (head.nbytes if head.requires_grad else 0),
    )
