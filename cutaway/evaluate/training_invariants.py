"""What must be equal in training, examined with the parts that train."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cutaway.adapt import lora
from cutaway.core.seeds import random_state, restore_random_state, seed_all
from cutaway.data.batch import Batch
from cutaway.data.pack import collate
from cutaway.evaluate.check import Check, close
from cutaway.evaluate.perplexity import token_losses
from cutaway.evaluate.subject import Subject
from cutaway.optim.adamw import OptimConfig
from cutaway.train.gradients import accumulate
from cutaway.train.loop import LoopConfig, train
from cutaway.train.objectives import causal_lm

TOLERANCE = 1e-3  # relative, float32: the same terms in another order differ by some 1e-5, a wrong mean by 1e-1
_STEPS, _KILLED_IN, _TRAINED = 4, 4, 8


def micro_batches(subject: Subject) -> Check:
    """One batch against any split of it."""
    model, batch = subject.loaded.model, subject.padded(subject.pieces)
    n = len(batch.ids_BT)
    splits = {"singles": range(n + 1), "uneven": sorted({0, 1, n})}
    with last_block_trained(model):
        whole = gradient(model, [batch])
        found = {
            name: difference(whole, gradient(model, [batch.rows(a, b) for a, b in pairwise(cuts)]))
            for name, cuts in splits.items()
        }
    says = f"relative difference of the last block's gradient, {n} rows at once against other splits"
    targets = [int((row != -100).sum()) for row in batch.targets_BT]
    return close("micro-batches", max(found.values()), TOLERANCE, says, **found, targets_per_row=targets)


def packing(subject: Subject) -> Check:
    """Pieces that share a row against pieces in rows of their own."""
    model, pieces = subject.loaded.model, subject.pieces[:4]
    width = min(sum(len(ids) - 1 for ids, _ in pieces), model.context)
    while sum(len(ids) - 1 for ids, _ in pieces) > width:
        pieces = pieces[:-1]
    packed = collate([pieces], width, subject.loaded.tokenizer.pad_id or 0)
    alone = subject.padded(pieces)
    with last_block_trained(model):
        gap = difference(gradient(model, [alone]), gradient(model, [packed]))
    losses = float((token_losses(model, packed) - token_losses(model, alone)).abs().max())
    says = f"{len(pieces)} pieces in one row against one a row: the last block's gradient (relative), losses of tokens"
    return close("packed equals unpacked", max(gap, losses / 10), TOLERANCE, says, gradient=gap, token_loss=losses)


def resuming(subject: Subject) -> Check:
    """A run that is killed and started again against one that is not; bit for bit."""
    model = subject.loaded.model
    with _adapted(model, lora.LoraConfig(rank=4, dropout=0.1)), redirect_stderr(io.StringIO()):
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad][-_TRAINED:]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        start = {name: model.get_parameter(name).detach().clone() for name in names}
        whole = _run(subject, start, subject.folder / "whole")
        with suppress(_Killed):
            _run(subject, start, subject.folder / "killed", killed_in=_KILLED_IN)
        resumed = _run(subject, start, subject.folder / "killed")
    gap = max(float((whole[name] - resumed[name]).abs().max()) for name in names)
    moved = max(float((whole[name] - start[name]).abs().max()) for name in names)
    says = (
        f"{_STEPS} steps of LoRA with dropout on the last layers, killed in step {_KILLED_IN} and resumed from its "
        "checkpoint, against a run that was left alone"
    )
    return Check(
        "resumed equals uninterrupted", gap == 0.0 < moved, {"difference": gap, "weights_moved": moved}, 0.0, says
    )


def merging(subject: Subject) -> Check:
    """An adapter beside the weights against one added to them, and the weights after it was taken out again."""
    model, batch = subject.loaded.model, subject.padded(subject.pieces[:2])
    before = token_losses(model, batch)
    weights = _checksum(model)
    generator = torch.Generator().manual_seed(0)
    with _adapted(model, lora.LoraConfig(rank=4)):
        for _, module in lora.adapted(model):
            module.lora_B.data.copy_(torch.randn(module.lora_B.shape, generator=generator) * 0.02)
        beside = token_losses(model, batch)
        lora.merge(model)
        merged = token_losses(model, batch)
        lora.unmerge(model)
    gap, effect = float((beside - merged).abs().max()), float((beside - before).abs().max())
    restored = _checksum(model) == weights
    says = "losses of tokens (nats) with a random adapter beside and inside the weights; the weights then come back bit for bit"
    tolerance = 1e-3
    numbers = {"difference": gap, "adapter_effect": effect, "weights_restored": restored}
    return Check("merged equals unmerged", gap <= tolerance and restored and effect > 0, numbers, tolerance, says)


@contextmanager
def last_block_trained(model: Any) -> Iterator[None]:
    """Only the last block and the final norm ask for gradients, so that a large model is examined in seconds."""
    with _restored(model):
        model.requires_grad_(False)
        model.blocks[-1].requires_grad_(True)
        model.final_norm.requires_grad_(True)
        yield


@contextmanager
def _adapted(model: nn.Module, config: lora.LoraConfig) -> Iterator[None]:
    with _restored(model):
        lora.add_lora(model, config)
        try:
            yield
        finally:
            lora.remove(model)


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """What asks for gradients is as before afterwards, and no gradient is left."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
            parameter.grad = None


def gradient(model: nn.Module, batches: list[Batch]) -> Tensor:
    """The gradient that the loop would step with, as one vector."""
    model.zero_grad(set_to_none=True)
    accumulate(model, causal_lm, batches)
    return torch.cat([p.grad.flatten().double().cpu() for p in model.parameters() if p.grad is not None])


def difference(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖a‖."""
    return float((a - b).norm() / a.norm())


class _Killed(Exception):  # noqa: N818 - it stands for a kill
    """The process is gone."""


@dataclass(frozen=True)
class _Trained:
    """The weights that are trained, in a file; see `train.checkpoint.WeightFiles`."""

    model: nn.Module
    names: tuple[str, ...]
    name: str = "weights"

    def write(self, folder: Path) -> None:
        save_file({name: self.model.get_parameter(name).detach() for name in self.names}, folder / "w.safetensors")

    def read(self, folder: Path) -> None:
        for name, tensor in load_file(folder / "w.safetensors").items():
            self.model.get_parameter(name).data.copy_(tensor)


def _run(subject: Subject, start: dict[str, Tensor], out: Path, killed_in: int | None = None) -> dict[str, Tensor]:
    """Train from `start`, or from the checkpoint in `out`; the weights at the end."""
    model, calls = subject.loaded.model, 0

    def objective(model: Any, batch: Batch) -> Any:
        nonlocal calls
        calls += 1
        if calls == killed_in:
            raise _Killed
        return causal_lm(model, batch)

    for name, tensor in start.items():
        model.get_parameter(name).data.copy_(tensor)
    loop = LoopConfig(
        steps=_STEPS, checkpoint_every=2, precision="float32", compile="off", tensorboard=False, log_every=_STEPS
    )
    before = random_state()
    seed_all(0)
    try:
        files = _Trained(model, tuple(start))
        train(model, subject.stream(), causal_lm if killed_in is None else objective, files, out, loop, OptimConfig())
    finally:
        model.eval()
        restore_random_state(before)
    return {name: model.get_parameter(name).detach().clone() for name in start}


def _checksum(model: nn.Module) -> dict[str, str]:
    """A hash of every weight's bits."""
    return {
        name: xxhash.xxh3_128_hexdigest(
            parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
        for name, parameter in model.named_parameters()
    }
