"""The training loop: one for every objective, model and kind of adaptation.

A run's folder:

    config.yaml       the resolved configuration (written by the recipe)
    metrics.jsonl     one line per event; tensorboard/ holds the same
    last/             the checkpoint to resume from (see `checkpoint`), until the run is done
    best/             the weights with the lowest held-out loss so far, until the run is done
    model/            the result; adapter/ where an adapter was trained
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from cutaway.core.allocator import kept_heap
from cutaway.core.config import Config
from cutaway.core.device import pick_dtype
from cutaway.core.distributed import first_alone, is_first, total
from cutaway.core.errors import Interrupted
from cutaway.core.files import recover_folder
from cutaway.core.progress import Progress
from cutaway.data.batch import Rows
from cutaway.data.stream import Stream
from cutaway.nn.experts import forget_load, move_biases
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.optim.schedule import lr_factor
from cutaway.train.checkpoint import Standing, WeightFiles, load_training, save_checkpoint, save_weights
from cutaway.train.gradients import accumulate_sum, clip, gradient_norms
from cutaway.train.logs import RunLog
from cutaway.train.objectives import Objective
from cutaway.train.parallel import ParallelConfig, seed_step
from cutaway.train.recompute import recomputed_blocks
from cutaway.train.signals import StopSignals
from cutaway.train.throughput import Compile, compiled_blocks, flops_per_token, measure_peak, pays_to_compile


class LoopConfig(Config):
    """How long to train and what to do on the way."""

    steps: int | None = Field(None, gt=0, description="optimiser steps; null: as many as `epochs` takes")
    epochs: float = Field(1.0, gt=0, description="passes over the data, where `steps` is null")
    micro_batches: int = Field(1, gt=0, description="batches whose gradients make one step")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="format of the products, by autocast; weights stay in float32"
    )
    compile: Compile = Field("auto", description="compile the blocks; auto: where the run is long enough to pay")
    checkpointing: bool = Field(
        False, description="keep only the input of each block and compute it again in the backward pass: less memory"
    )
    parallel: ParallelConfig = ParallelConfig()
    eval_every: int = Field(100, gt=0, description="steps between evaluations on the held-out text")
    eval_batches: int = Field(50, gt=0, description="at most so many batches of it each time")
    patience: int | None = Field(None, gt=0, description="stop after so many evaluations without a lower loss")
    checkpoint_every: int = Field(200, gt=0, description="steps between checkpoints")
    log_every: int = Field(10, gt=0, description="steps between lines of the log")
    tensorboard: bool = True
    trace_gradients: bool = Field(False, description="log the gradient norm of every layer")

    @field_validator("compile", mode="before")
    @classmethod
    def _yaml_switch(cls, value: object) -> object:
        """YAML reads `on` and `off` as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Args:
        steps: optimiser steps done; fewer than asked for when it stopped early.
        tokens: tokens read.
        best, best_step: lowest held-out loss and the step it was found at, None without held-out text; the result has
            those weights.
    """

    steps: int
    tokens: int
    best: float | None
    best_step: int | None


def train(
    model: Any,
    stream: Stream,
    objective: Objective,
    files: WeightFiles,
    out: Path,
    loop: LoopConfig,
    optim: OptimConfig,
    evaluate: Callable[[], float] | None = None,
    seed: int = 0,
) -> Outcome:
    """Train `model` in place and leave the result in `out/model` (or `out/adapter`); goes on from `out/last` when that is there.
    Who is done with the result calls `clear`.

    Args:
        model: parameters that require a gradient are trained.
        stream: the batches.
        objective: what to minimise.
        files: how the weights are written and read.
        out: the run's folder.
        evaluate: the held-out loss. With it, the weights of its lowest value are what is kept.
        seed: decides what several processes draw in a step; one goes on from where its generators stand.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; saved, and the same command goes on.
        NonFiniteLossError, NothingSupervisedError: see `gradients.accumulate`.
    """
    device = next(model.parameters()).device
    precision = pick_dtype(loop.precision, device)
    last, best = out / "last", out / "best"
    with first_alone():
        recover_folder(last)
        recover_folder(best)
    resumed = last.exists()
    if resumed:
        files.read(last)  # before the optimiser takes hold of the parameters
    optimizer = make_adamw(model, optim)
    standing = load_training(last, model, optimizer, stream) if resumed else Standing()
    steps = loop.steps or math.ceil(loop.epochs * stream.batches_per_epoch / loop.micro_batches)
    batch = peek(stream)
    flops = flops_per_token(model, batch.length)
    compiled = pays_to_compile(model, loop.compile, device, flops * batch.n_positions * loop.micro_batches * steps)
    speed = _Speed(flops, measure_peak(device, precision))

    def save() -> None:
        save_checkpoint(last, files, model, optimizer, stream, standing)

    with (
        RunLog(out, standing.step, loop.tensorboard, is_first()) as log,
        compiled_blocks(model, compiled),
        recomputed_blocks(model, loop.checkpointing),
        kept_heap(),
        Progress("training", steps, "step", standing.step) as bar,
        StopSignals() as stop,
    ):
        model.train()
        forget_load(model)
        while standing.step < steps and not _stale(standing, loop):
            started = time.perf_counter()
            lr = optim.lr * lr_factor(optim.schedule, standing.step, steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            seed_step(seed, standing.step, loop.parallel)
            batches, copies = islice(stream, loop.micro_batches), loop.parallel.tensor
            result = accumulate_sum(model, objective, batches, standing.step + 1, precision, copies)
            due = standing.step + 1 == steps or (standing.step + 1) % loop.log_every == 0
            traced = {"gradient_norms": gradient_norms(model, result.targets)} if due and loop.trace_gradients else {}
            norm = clip(model, optim.clip, standing.step + 1, result.targets)
            optimizer.step()
            optimizer.zero_grad()
            move_biases(model)
            if hasattr(model, "after_step"):
                model.after_step()
            standing.step += 1
            standing.tokens += result.tokens
            speed.add(result.tokens, time.perf_counter() - started)
            bar.advance(1, loss=f"{result.loss:.3f}", **speed.shown())
            if due:
                numbers = {"loss": result.loss, **result.metrics, "gradient_norm": norm, "lr": lr}
                log.write(standing.step, tokens=standing.tokens, **numbers, **speed.logged(), **traced)
            if evaluate and (standing.step % loop.eval_every == 0 or standing.step == steps):
                held_out = evaluate()
                log.write(standing.step, held_out_loss=held_out)
                bar.say(f"step {standing.step}: held-out loss {held_out:.4f}")
                _note(standing, held_out, files, best)
            if total(stop.requested)[0] and standing.step < steps:
                save()
                raise Interrupted(
                    f"stopped after step {standing.step} of {steps}; saved in {last}",
                    hint="the same command goes on from there",
                )
            if standing.step % loop.checkpoint_every == 0 and standing.step < steps:
                save()
    if standing.best is not None:
        files.read(best)
    save_weights(files, out / files.name)
    model.eval()
    return Outcome(standing.step, standing.tokens, standing.best, standing.best_step)


def clear(out: Path) -> None:
    """Take away what a run goes on from: it is done."""
    for name in ("last", "best"):
        shutil.rmtree(out / name, ignore_errors=True)


class _Speed:
    """Tokens per second, and the share of the machine's peak, since the last line of the log."""

    def __init__(self, flops: float, peak: float):
        self.flops, self.peak = flops, peak
        self.tokens, self.seconds, self.rate = 0, 0.0, 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds
        self.rate = self.tokens / self.seconds

    def shown(self) -> dict[str, Any]:
        return {"tok/s": f"{self.rate:,.0f}", "of peak": f"{self.rate * self.flops / self.peak:.0%}"}

    def logged(self) -> dict[str, float]:
        found = {"tokens_per_s": self.rate, "share_of_peak": self.rate * self.flops / self.peak}
        self.tokens, self.seconds = 0, 0.0
        return found


def peek(stream: Stream) -> Rows:
    """The next batch, which stays the next."""
    state = stream.state()
    batch = next(stream)
    stream.restore(state)
    return batch


def _stale(standing: Standing, loop: LoopConfig) -> bool:
    return loop.patience is not None and standing.stale >= loop.patience


def _note(standing: Standing, held_out: float, files: WeightFiles, best: Path) -> None:
    """Keep the weights when they are the best so far; a loss that is no number is worse than any."""
    best_is_number = standing.best is not None and not math.isnan(standing.best)
    if standing.best is None or held_out < standing.best or not (best_is_number or math.isnan(held_out)):
        standing.best, standing.best_step, standing.stale = held_out, standing.step, 0
        save_weights(files, best)
    else:
        standing.stale += 1
