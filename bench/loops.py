"""Training loops to time: ours, transformers' Trainer, what a careful hand makes of transformers, and nanoGPT.

Each takes a model and rows of tokens, one batch per step, and gives the seconds of each step but the first (which compiles) and
the last (which ends with saving).
"""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from cutaway.data.batch import Batch
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import FullWeights
from cutaway.train.loop import LoopConfig, train
from cutaway.train.objectives import causal_lm


class Clock:
    """Notes when each step starts."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def note(self) -> None:
        self.starts.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [after - before for before, after in pairwise(self.starts[1:])]


class Rows(Dataset):
    """Steps × rows × length tokens, as the Trainer reads them."""

    def __init__(self, tokens: Tensor):
        self.tokens = tokens.flatten(0, 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class _Stream:
    """The tokens in order, as our batches."""

    def __init__(self, tokens: Tensor, clock: Clock):
        self.tokens, self.clock, self.at = tokens, clock, 0
        self.batches_per_epoch = len(tokens)

    def __next__(self) -> Batch:
        self.clock.note()
        ids = self.tokens[self.at]
        self.at += 1
        targets = torch.cat((ids[:, 1:], torch.full((len(ids), 1), -100)), dim=1)
        return Batch(ids, targets, torch.arange(ids.shape[1]).expand(ids.shape), torch.ones_like(ids))

    def __iter__(self) -> "_Stream":
        return self

    def state(self) -> dict[str, int]:
        return {"at": self.at}

    def restore(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def ours(model: Any, tokens: Tensor, compile: str = "on") -> list[float]:
    """Our loop; bfloat16 products where the processor has them, weights in float32."""
    clock = Clock()
    stream: Any = _Stream(tokens, clock)
    loop = LoopConfig(steps=len(tokens), compile=compile, tensorboard=False)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        train(model, stream, causal_lm, FullWeights(model), Path(folder), loop, OptimConfig())
    return clock.seconds()


def trainer(model: Any, tokens: Tensor) -> list[float]:
    """transformers' Trainer as it comes: float32."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    clock = Clock()

    class Note(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.note()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=tokens.shape[1],
            max_steps=len(tokens),
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=Rows(tokens), callbacks=[Note()]).train()
    return clock.seconds()


def by_hand(model: Any, tokens: Tensor, chunks: int = 4) -> list[float]:
    """transformers' model in bfloat16, weights too, compiled, with a loss whose logits are made chunk by chunk and twice."""
    compiled, head = torch.compile(model.model), model.lm_head

    def loss_sum(h_ND: Tensor, targets_N: Tensor) -> Tensor:
        return F.cross_entropy(head(h_ND).float(), targets_N, reduction="sum")

    def loss(ids: Tensor) -> Tensor:
        h, targets = compiled(ids).last_hidden_state[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        parts = zip(h.chunk(chunks), targets.chunk(chunks), strict=True)
        return sum(checkpoint(loss_sum, *part, use_reentrant=False) for part in parts) / len(targets)

    return plain_loop(model, tokens, loss)


def nano_gpt(model: Any, tokens: Tensor) -> list[float]:
    """nanoGPT's model and its way: compiled whole, bfloat16 autocast, weights in float32."""
    compiled = torch.compile(model)

    def loss(ids: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return compiled(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())[1]

    return plain_loop(model, tokens, loss)


def plain_loop(model: Any, tokens: Tensor, loss: Any) -> list[float]:
    """AdamW and clipping around `loss(ids)`."""
    clock = Clock()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    model.train()
    for ids in tokens:
        clock.note()
        loss(ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return clock.seconds()
