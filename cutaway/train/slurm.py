"""A planned run as a job of a SLURM cluster: one `torchrun` per node, which starts one process per device.

Two minutes before its time is over the job gets SIGTERM, on which a run saves; the same script, submitted again, goes on.
"""

import shlex
from math import ceil
from typing import Any

from pydantic import Field

from cutaway.core.config import Config, as_override, dotted
from cutaway.core.errors import ConfigError, ResourceError

_NAME = r"^[A-Za-z0-9_.:+,-]+$"
_MARGIN = 1.5  # time asked for over time expected


class SlurmConfig(Config):
    """What the cluster is told beside nodes and devices."""

    job_name: str = Field("cutaway", pattern=_NAME)
    partition: str | None = Field(None, pattern=_NAME)
    account: str | None = Field(None, pattern=_NAME)
    hours: float | None = Field(None, gt=0, description="time limit; null: half as much again as the plan expects")
    port: int = Field(29500, ge=1024, le=65535, description="where the processes meet, on the first node")


def sbatch_script(slurm: SlurmConfig, settings: dict[str, Any], report: dict[str, Any], recipe: str) -> str:
    """The script.

    Args:
        settings: of the run, nested; those that the plan suggests take the place of the same ones.
        report: of `plan.plan`.
        recipe: the command, pretrain or finetune.

    Raises:
        ResourceError: not one row fits into a device. ConfigError: the run does not say where its data or result are.
    """
    memory, machine = report["memory"], report["machine"]
    if report["suggested"] is None:
        raise ResourceError(
            f"not one row fits: a device has {machine['memory'] / 1e9:.0f} GB and needs {memory['total'] / 1e9:.0f} GB",
            field="machine",
            value=machine["name"],
            hint="more machine.devices, a smaller data.seq_len or model, or adapter=lora",
        )
    flat = {**dotted(settings), **report["suggested"]}
    for field in ("data.path", "out"):
        if field not in flat:
            raise ConfigError("is required for a script", field=field)
    hours = slurm.hours or _MARGIN * report["time"]["seconds"] / 3600
    options = {
        "job-name": slurm.job_name,
        "partition": slurm.partition,
        "account": slurm.account,
        "nodes": machine["nodes"],
        "ntasks-per-node": 1,
        "gpus-per-node": machine["devices_on_a_node"] if machine["is_gpu"] else None,
        "time": _time(hours),
        "signal": "TERM@120",
        "output": f"{slurm.job_name}-%j.log",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    words = [as_override(name, value) for name, value in flat.items()]
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "set -euo pipefail",
            """first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)""",
            f'srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node={machine["devices_on_a_node"]} \\',
            f'  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:{slurm.port}" \\',
            f"  -m cutaway {recipe} \\",
            *(f"    {shlex.quote(word)} \\" for word in words[:-1]),
            f"    {shlex.quote(words[-1])}",
            "",
        ]
    )


def _time(hours: float) -> str:
    """Days-hours:minutes:seconds, in whole minutes, ten at the least.

    >>> _time(30.5), _time(0.01)
    ('1-06:30:00', '0-00:10:00')
    """
    minutes = max(10, ceil(hours * 60))
    return f"{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:00"
