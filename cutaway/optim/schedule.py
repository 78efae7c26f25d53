"""Learning-rate schedules: pure functions of the step."""

import math
from typing import Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config


class ScheduleConfig(Config):
    """How the learning rate moves over a run. Shares are of all steps, so that a schedule fits a run of any length."""

    kind: Literal["constant", "linear", "cosine", "wsd"] = Field(
        "cosine", description="wsd: warm up, stay, decay linearly (Hu et al. 2024, MiniCPM)"
    )
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps that rise linearly from near 0 to the peak")
    decay: float = Field(0.2, ge=0, le=1, description="share of the steps that fall at the end; only for wsd")
    final: float = Field(0.1, ge=0, le=1, description="where the fall ends, as a share of the peak")

    @model_validator(mode="after")
    def _fits(self) -> "ScheduleConfig":
        if self.kind == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} together are more than the whole run")
        return self


def lr_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """What the peak learning rate is multiplied by in step `step` (0 … steps − 1).

    >>> config = ScheduleConfig(kind="linear", warmup=0.2, final=0.0)
    >>> [lr_factor(config, step, 10) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    assert 0 <= step < steps, f"step {step} of {steps}"
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.kind == "constant":
        return 1.0
    begin = max(steps - math.ceil(config.decay * steps), warmup) if config.kind == "wsd" else warmup
    if step < begin:
        return 1.0
    done = (step - begin) / (steps - begin)
    height = (1 + math.cos(math.pi * done)) / 2 if config.kind == "cosine" else 1 - done
    return config.final + (1 - config.final) * height
