"""A model and its data spread over the processes of a run (FSDP2: Zhao et al. 2023, per parameter)."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import nn

from cutaway.core.distributed import rank, size
from cutaway.core.errors import ConfigError
from cutaway.data.batch import Rows
from cutaway.data.stream import Stream


def shard_model(model: Any) -> None:
    """Give every process its part of each parameter; a block is put together when it runs. Nothing happens to one process."""
    if size() == 1:
        return
    if not hasattr(model, "blocks"):
        raise ConfigError("has no blocks to shard", field="model", value=model.config.model_type, hint="one process")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device: torch.device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (size(),))
    parts: list[nn.Module] = [*getattr(model, "encoder_blocks", ()), *model.blocks]
    for block in parts:
        fully_shard(block, mesh=mesh)
    for name in ("encode", "logits"):  # ways in besides `forward`
        if hasattr(model, name):
            _register(model, name)
    fully_shard(model, mesh=mesh)


def settle(model: nn.Module) -> None:
    """After a forward pass without a backward one: give back the parts outside of blocks, which stay together for the latter."""
    if size() > 1:
        model.reshard()  # type: ignore[operator]


def gather_model(model: nn.Module) -> None:
    """Put every parameter together in every process: what a recipe does with the trained model needs them whole."""
    if size() > 1:
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.unshard()


def _register(model: nn.Module, name: str) -> None:
    from torch.distributed.fsdp import register_fsdp_forward_method

    register_fsdp_forward_method(model, name)


class Shard:
    """The batches of a stream that are this process's: of every `size` in turn, one. All together read what one would."""

    def __init__(self, stream: Stream):
        self.stream = stream

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        return list(islice(self.stream, size()))[rank()]

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this process in one pass."""
        return max(1, self.stream.batches_per_epoch // size())

    def state(self) -> dict[str, Any]:
        """Where all of them stand."""
        return self.stream.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, by whatever number of processes."""
        self.stream.restore(state)
