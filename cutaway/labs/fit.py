"""Training a small model inside a lab: one batch per step, AdamW, the learning rate warmed up and then decayed to a tenth."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch

from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.optim.schedule import lr_factor
from cutaway.train.gradients import accumulate, clip
from cutaway.train.objectives import Objective


def fit(model: Any, objective: Objective, batches: Iterable[Any], steps: int, lr: float) -> list[float]:
    """Train `model` in place for `steps` batches and leave it in evaluation mode.

    Returns:
        The loss of every step, mean over supervised tokens in nats.
    """
    config = OptimConfig(lr=lr, weight_decay=0.0)
    optimizer = make_adamw(model, config)
    losses = []
    model.train()
    with one_thread():
        for step, batch in enumerate(islice(batches, steps)):
            for group in optimizer.param_groups:
                group["lr"] = lr * lr_factor(config.schedule, step, steps)
            losses.append(accumulate(model, objective, [batch], step + 1).loss)
            clip(model, config.clip, step + 1)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    return losses


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread: for tensors as small as a lab's, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
