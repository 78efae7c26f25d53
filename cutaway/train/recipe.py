"""What every recipe does around its own part: the run's folder, seeds, the memory check, losses before and after, the report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.device import pick_device, pick_dtype
from cutaway.core.distributed import first_alone, is_first, join, size
from cutaway.core.failures import shared_failures
from cutaway.core.progress import step
from cutaway.core.seeds import seed_all
from cutaway.data.stream import Stream
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import WeightFiles
from cutaway.train.loop import LoopConfig, clear, peek, train
from cutaway.train.memory import refuse_if_too_large, static_memory, training_memory
from cutaway.train.objectives import Objective
from cutaway.train.parallel import check_processes
from cutaway.train.run import begin_run, finish_run
from cutaway.train.shard import Shard, gather_model, settle, shard_model


class RunConfig(Config):
    """What every recipe can be told."""

    out: Path = Field(description="the run's folder; a run that was stopped there goes on")
    optim: OptimConfig = OptimConfig()
    loop: LoopConfig = LoopConfig()
    seed: int = Field(0, ge=0, description="decides the weights, the order of the data, masks and dropout")
    device: str = "auto"


@dataclass
class Job:
    """A recipe's own part.

    Args:
        model, stream, objective, files: as `loop.train` takes them.
        losses: functions that measure a loss, by name; the first decides which weights are kept.
        capacity: tokens of the largest micro-batch, for the memory estimate.
        report: what the recipe adds to the report.
        finish: what is done with the trained model, before the report says that the run is done; it may add to the report.
    """

    model: Any
    stream: Stream
    objective: Objective
    files: WeightFiles
    losses: dict[str, Callable[[], float]]
    capacity: int
    report: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[], dict[str, Any]] = dict


@shared_failures()
def carry_out(config: RunConfig, prepare: Callable[[torch.device, torch.dtype], Job]) -> dict[str, Any]:
    """Run a recipe, or what is left of it; the report is returned and in `out/report.json`.

    Args:
        prepare: makes the job, on a device and for a precision; the same in every call.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped;
            `LostProcessError` when another process of the run failed.
    """
    join()
    check_processes(config.loop.parallel, size())
    with first_alone():
        report = begin_run(config, config.out)
    if report is not None:
        return report
    device = pick_device(config.device)
    precision = pick_dtype(config.loop.precision, device)
    with first_alone():
        seed_all(config.seed)
        job = prepare(device, precision)
    memory = training_memory(
        job.model, job.objective, peek(job.stream), job.capacity, precision, config.loop.checkpointing
    )
    refuse_if_too_large(memory, device, held=static_memory(job.model).weights)
    parameters = {
        "all": sum(parameter.numel() for parameter in job.model.parameters()),
        "trained": sum(parameter.numel() for parameter in job.model.parameters() if parameter.requires_grad),
    }
    shard_model(job.model, config.loop.parallel, precision)

    def measured(name: str) -> float:
        value = job.losses[name]()
        settle(job.model)
        return value

    with step("evaluating before"):
        before = {name: measured(name) for name in job.losses}
    first, *others = job.losses
    outcome = train(
        job.model,
        Shard(job.stream, config.loop.parallel.tensor) if size() > 1 else job.stream,
        job.objective,
        job.files,
        config.out,
        config.loop,
        config.optim,
        lambda: measured(first),
        config.seed,
    )
    after = {first: outcome.best, **{name: measured(name) for name in others}}
    gather_model(job.model)
    report = {
        **job.report,
        "parameters": parameters,
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "held_out_loss": {name: {"before": before[name], "after": after[name]} for name in before},
        "best_step": outcome.best_step,
        **job.finish(),
    }
    if is_first():
        finish_run(config.out, report)
        clear(config.out)
    return report
