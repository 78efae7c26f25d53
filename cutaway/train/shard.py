"""A model and its data spread over the processes of a run (FSDP2: Zhao et al. 2023, per parameter)."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cutaway.core.distributed import rank, size
from cutaway.core.errors import ConfigError
from cutaway.data.batch import Rows
from cutaway.data.stream import Stream
from cutaway.nn.experts import expert_layers
from cutaway.nn.positions import RelativeBias
from cutaway.train.blocks import all_blocks
from cutaway.train.parallel import ParallelConfig, make_meshes

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_WAYS_IN = ("encode", "encode_text", "encode_image", "logits", "label_logits")
"""Of a model, besides `forward`. `label_logits`, since over a frozen encoder `forward` has no backward pass; not `pair_logits`,
whose backward pass would give back what that of the words still reads."""


def shard_model(model: Any, parallel: ParallelConfig, precision: torch.dtype) -> None:
    """Give every process its part of each parameter; a block is put together when it runs. Nothing happens to one process.

    Blocks travel in the format of the products, as autocast would make them of the whole; what is outside of blocks, and all
    gradients, in float32. Gradients come as sums over the processes.

    Args:
        parallel: what else is shared: products of a block, experts.
        precision: the format of the products.

    Raises:
        ConfigError: a model that cannot be shared in this way.
    """
    if size() == 1:
        return
    if not hasattr(model, "blocks"):
        raise ConfigError("has no blocks to shard", field="model", value=model.config.model_type, hint="one process")
    from torch.distributed.fsdp import (
        FSDPModule,
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    from cutaway.train.tensor_parallel import split_blocks

    device: torch.device = next(model.parameters()).device
    meshes = make_meshes(parallel, device.type)
    travel = travel_format(model, device.type, precision)
    low = MixedPrecisionPolicy(param_dtype=travel, reduce_dtype=torch.float32, cast_forward_inputs=False)
    if parallel.experts > 1:
        for experts in spread_experts(model, meshes.experts):
            fully_shard(experts, mesh=meshes.replicas, mp_policy=low)
    if parallel.tensor > 1:
        split_blocks(model, meshes.tensor, whole_experts=parallel.experts > 1)
    for module in model.modules():
        if isinstance(module, RelativeBias):  # T5's first block holds it, and all use it
            fully_shard(module, mesh=meshes.data)
    for block in all_blocks(model):
        fully_shard(block, mesh=meshes.data, mp_policy=low)
    fully_shard(model, mesh=meshes.data)
    for name in _WAYS_IN:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def travel_format(model: nn.Module, device: str, precision: torch.dtype) -> torch.dtype:
    """The format in which blocks are put together, for products in `precision`."""
    mixed = device == "cpu" and any(isinstance(module, nn.LayerNorm) for module in model.modules())
    return torch.float32 if mixed else precision  # on a CPU, autocast leaves LayerNorm alone, which takes no mixture


def check_experts(model: nn.Module, n: int) -> None:
    """Refuse a model whose experts cannot be spread over `n` processes."""
    for number in {len(layer.experts) for layer in expert_layers(model).values()} or {0}:
        if n > 1 and (not number or number % n):
            raise ConfigError(
                f"does not divide the {number} experts of a layer", field="loop.parallel.experts", value=n, hint="1"
            )


def spread_experts(model: nn.Module, mesh: "DeviceMesh") -> list[nn.Module]:
    """Put every layer's experts on the processes of a mesh; give what took their place.

    Raises:
        ConfigError: no experts, or a number of them that does not divide.
    """
    from cutaway.nn.spread_experts import SpreadExperts

    check_experts(model, mesh.size())
    layers = expert_layers(model).values()
    spread = [SpreadExperts(layer.experts, mesh) for layer in layers]
    for layer, experts in zip(layers, spread, strict=True):
        layer.experts = experts  # type: ignore[assignment]
    return [*spread]


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


class Shard:
    """The batches of a stream that are this process's: of every so many in turn, one. All together read what one would.

    Args:
        copies: processes in a row that read the same.
    """

    def __init__(self, stream: Stream, copies: int = 1):
        self.stream, self.readers, self.number = stream, size() // copies, rank() // copies

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        return list(islice(self.stream, self.readers))[self.number]

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this process in one pass."""
        return max(1, self.stream.batches_per_epoch // self.readers)

    def state(self) -> dict[str, Any]:
        """Where all of them stand."""
        return self.stream.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, by whatever number of processes."""
        self.stream.restore(state)
