"""The most memory of a training step: weights, gradients, the optimiser's state and everything that a step holds besides.

Counted from the allocations of tensors, not from the process, so that a compiler's memory and the libraries' are not in it.
The model and batch of `bench.train`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.harness import Row
from bench.loops import ours, trainer
from bench.train import LENGTH, ROWS, SHAPE, peer_model
from cutaway.models.llama import Llama, LlamaConfig


def run() -> list[Row]:
    torch.manual_seed(0)
    tokens = torch.randint(0, SHAPE["vocab_size"], (3, ROWS, LENGTH))
    model, peer = Llama(LlamaConfig(**SHAPE)), peer_model()
    mine, theirs = peak_bytes(lambda: ours(model, tokens), model), peak_bytes(lambda: trainer(peer, tokens), peer)
    return [
        Row(
            "memory of a training step, Llama 16M",
            mine / 2**20,
            theirs / 2**20,
            "transformers Trainer, float32",
            "MiB",
            higher_is_better=False,
            goal=1 / 0.8,
        )
    ]


def peak_bytes(work: Callable[[], Any], model: torch.nn.Module) -> int:
    """The most bytes that tensors held while `work` ran once more than before it, and the model's own."""
    work()  # compiled, and whatever is kept from then on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = most = 0
    for event in recorded.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most + sum(parameter.nbytes for parameter in model.parameters())
