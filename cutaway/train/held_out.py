"""Loss on text that is not trained on."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cutaway.core.errors import NothingSupervisedError
from cutaway.data.batch import Batch, Rows
from cutaway.data.examples import Skipped, cut, tokenize
from cutaway.data.pack import collate
from cutaway.data.read import read_records
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.gradients import autocast
from cutaway.train.objectives import Objective


@torch.no_grad()
def held_out_loss(
    model: nn.Module, objective: Objective, batches: Iterable[Rows], precision: torch.dtype = torch.float32
) -> float:
    """Mean loss per supervised token of `batches`, in nats, without dropout; the model's mode is as before afterwards."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    loss_sum, targets = 0.0, 0
    try:
        for batch in batches:
            with autocast(device, precision):
                loss, n, _ = objective(model, batch.to(device))
            loss_sum, targets = loss_sum + loss.item(), targets + n
    finally:
        model.train(training)
    if not targets:
        raise NothingSupervisedError("the held-out text holds no supervised token")
    return loss_sum / targets


def on_held_out(
    model: nn.Module, objective: Objective, stream: Any, precision: torch.dtype, most: int | None = None
) -> Callable[[], float]:
    """`held_out_loss` of the first `most` batches of a stream (or of all), as the `losses` of a job want it."""
    return lambda: held_out_loss(model, objective, islice(stream.once(), most), precision)


def file_batches(path: Path, tokenizer: Tokenizer, seq_len: int, rows: int) -> list[Batch]:
    """A small file (any that training data may be) as batches of one piece a row, in its order."""
    skipped = Skipped()
    pieces = [
        (piece.ids, piece.learned)
        for example in tokenize(read_records(path), tokenizer, skipped)
        for piece in cut(example, seq_len, "window", skipped)
        if len(piece.ids) > 1
    ]
    groups = (pieces[start : start + rows] for start in range(0, len(pieces), rows))
    return [collate([[piece] for piece in group], seq_len, tokenizer.pad_id or 0) for group in groups]
