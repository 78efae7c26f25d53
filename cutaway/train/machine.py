"""Machines that a run can be planned for: what one device multiplies and holds, and how many there are."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator

from cutaway.core.config import Config
from cutaway.core.device import free_memory, pick_device
from cutaway.core.errors import near_matches
from cutaway.train.throughput import measure_peak

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        flops: peak FLOP/s of dense matrix products by format; float32 without TF32, bfloat16 summed in float32.
        memory: bytes.
        source: where the numbers are from.
        is_gpu: whether a job asks the cluster for it by `--gpus-per-node`.
    """

    flops: dict[Precision, float]
    memory: float
    source: str
    is_gpu: bool = True


def _gpu(bfloat16: float, float32: float, gigabytes: float, source: str) -> Device:
    return Device({"float32": float32 * 1e12, "bfloat16": bfloat16 * 1e12}, gigabytes * 1e9, source)


DEVICES = {
    "b200": _gpu(2250, 75, 180, "NVIDIA HGX B200 datasheet, an eighth"),
    "h200": _gpu(989.4, 66.9, 141, "NVIDIA H200 SXM datasheet"),
    "h100": _gpu(989.4, 66.9, 80, "NVIDIA H100 SXM5 whitepaper"),
    "a100-80": _gpu(312, 19.5, 80, "NVIDIA A100 SXM datasheet"),
    "a100-40": _gpu(312, 19.5, 40, "NVIDIA A100 SXM datasheet"),
    "l40s": _gpu(362, 91.6, 48, "NVIDIA L40S datasheet"),
    "l4": _gpu(121, 30.3, 24, "NVIDIA L4 datasheet"),
    "rtx4090": _gpu(165.2, 82.6, 24, "NVIDIA Ada whitepaper, appendix A"),
    "rtx3090": _gpu(71, 35.6, 24, "NVIDIA Ampere GA102 whitepaper, appendix A"),
    "mi300x": _gpu(1307.4, 163.4, 192, "AMD Instinct MI300X data sheet"),
    "cpu2": Device(
        {"float32": 1.5e11, "bfloat16": 4e11}, 24e9, "two server cores with AMX, measured through torch", is_gpu=False
    ),
}


class MachineConfig(Config):
    """What to compute on; `machine=h100` is short for `machine.name=h100`."""

    name: str = Field("this", description="a device of the table, or this: the machine at hand, measured now")
    devices: int = Field(1, ge=1)
    per_node: int = Field(8, ge=1, description="devices of one node; only the SLURM script asks")
    flops: float | None = Field(None, gt=0, description="peak FLOP/s of one device, instead of the table's")
    memory: float | None = Field(None, gt=0, description="bytes of one device, instead of the table's")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (*DEVICES, "this"):
            raise ValueError(f"unknown device: {near_matches(name, [*DEVICES, 'this'])}")
        return name

    @model_validator(mode="after")
    def _whole_nodes(self) -> "MachineConfig":
        if self.devices > self.per_node and self.devices % self.per_node:
            raise ValueError(f"devices {self.devices} is not a multiple of per_node {self.per_node}")
        return self

    @property
    def nodes(self) -> int:
        """How many nodes the devices are on."""
        return max(1, self.devices // self.per_node)

    def device(self) -> Device:
        """One device, with what was given in place of what is known."""
        found = _this(given=self.flops is not None) if self.name == "this" else DEVICES[self.name]
        given = self.flops
        return Device(
            found.flops if given is None else {"float32": given, "bfloat16": given},
            self.memory or found.memory,
            found.source if given is None else "given",
            found.is_gpu,
        )


def _this(given: bool) -> Device:
    """The device at hand. Its speed is measured unless it is `given`."""
    device = pick_device()
    formats: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    flops = {} if given else {name: measure_peak(device, dtype) for name, dtype in formats.items()}
    return Device(
        flops, float(free_memory(device)), f"measured now on {device.type}: a matrix product, and free memory"
    )
