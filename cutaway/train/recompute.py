"""Activation checkpointing (Chen et al. 2016): of every block only the input is kept, and the rest is computed again in the
backward pass. Same loss, same gradients bit for bit, a third more products."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from cutaway.core.errors import ConfigError
from cutaway.train.blocks import all_blocks


@contextmanager
def recomputed_blocks(model: Any, wanted: bool) -> Iterator[None]:
    """Inside, the blocks of the model are computed twice; module names, weights and hooks stay as they are.

    Raises:
        ConfigError: wanted for a model without blocks.
    """
    if wanted and not hasattr(model, "blocks"):
        raise ConfigError(
            "this model has no blocks to compute again", field="loop.checkpointing", value=True, hint="false"
        )
    blocks = all_blocks(model) if wanted else []
    before = [block.__dict__.get("forward") for block in blocks]  # a compiled one
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward
