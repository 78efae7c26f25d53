"""Tensor parallelism (Shoeybi et al. 2019, section 3): several processes compute each product of a block together.

Products come in pairs. The first of a pair is cut by its outputs, heads or hidden units, the second by its inputs; so each
process has its own heads and units to itself, and one sum at the end of a pair is all that is exchanged. Embedding, norms and
router are computed by all alike, and need no exchange: their inputs are the same.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from cutaway.core.errors import ConfigError
from cutaway.models import composed, gpt2, llama, mixtral
from cutaway.nn.experts import ExpertLayer
from cutaway.nn.feedforward import FeedForward, GatedFeedForward
from cutaway.nn.spread_experts import SpreadExperts


@dataclass(frozen=True)
class Pair:
    """Names in a module.

    Args:
        first: products cut by their outputs.
        second: the product that takes what comes of these.
        fused: how many things lie side by side in the outputs of a first one (queries, keys and values).
    """

    first: tuple[str, ...]
    second: str
    fused: int = 1


PAIRS: dict[type[nn.Module], Pair] = {
    llama.Attention: Pair(("q_proj", "k_proj", "v_proj"), "o_proj"),
    composed.GroupedAttention: Pair(("q_proj", "k_proj", "v_proj"), "o_proj"),
    gpt2.Attention: Pair(("c_attn",), "c_proj", fused=3),
    gpt2.MLP: Pair(("c_fc",), "c_proj"),
    GatedFeedForward: Pair(("gate_proj", "up_proj"), "down_proj"),
    FeedForward: Pair(("up_proj",), "down_proj"),
    mixtral.Expert: Pair(("w1", "w3"), "w2"),
}
"""The kinds of module that can be split; a new kind is one line."""


def split_blocks(model: Any, mesh: DeviceMesh) -> None:
    """Cut the blocks of a model over the processes of `mesh`; module names stay as they are.

    Raises:
        ConfigError: a kind of module that is not in `PAIRS`, or a number of heads or units that does not divide.
    """
    for block in model.blocks:
        check_block(block, mesh.size())
    for block in model.blocks:
        _split(block, mesh)


def check_block(block: nn.Module, n: int) -> None:
    """Refuse a block that cannot be cut into `n`."""
    covered: set[nn.Module] = set()
    for _, module in _parts(block):
        pair = PAIRS.get(type(module))
        if pair:
            covered.update(module.get_submodule(name) for name in (*pair.first, pair.second))
            for name, heads in (("query heads", "H"), ("key-value heads", "G")):
                _check_divides(n, getattr(module, heads, n), name)
            for name in pair.first:
                units = getattr(module.get_submodule(name), "out_features", None)
                _check_divides(n, units or n, f"outputs of {name}")
        elif isinstance(module, ExpertLayer):
            covered.update(child for child in module.children() if isinstance(child, nn.Linear))  # routers
    for name, module in _parts(block):
        if isinstance(module, nn.Linear) and (module not in covered or type(module) is not nn.Linear):
            raise ConfigError(
                f"{name} in {type(block).__module__}.{type(block).__name__} is of a kind that cannot be split",
                field="loop.parallel.tensor",
                value=n,
                hint=f"1; these can: {', '.join(sorted(f'{kind.__module__}.{kind.__name__}' for kind in PAIRS))}",
            )


def _parts(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of a block, without experts that are spread already: those stay whole."""
    spread = {part for module in block.modules() if isinstance(module, SpreadExperts) for part in module.modules()}
    return [(name, module) for name, module in block.named_modules() if module not in spread]


def _check_divides(n: int, number: int, what: str) -> None:
    if number % n:
        raise ConfigError(f"does not divide the {number} {what} of the model", field="loop.parallel.tensor", value=n)


def _split(block: nn.Module, mesh: DeviceMesh) -> None:
    for _, module in _parts(block):
        pair = PAIRS.get(type(module))
        if not pair:
            continue
        plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in pair.first}
        plan[pair.second] = RowwiseParallel()
        if pair.fused > 1:
            plan.update({name: ColwiseParallel(use_local_output=False) for name in pair.first})
        for name in ("q_norm", "k_norm"):  # of every head by itself; its weight's gradient is summed over all heads
            if hasattr(module, name):
                plan[name] = SequenceParallel(sequence_dim=2, use_local_output=True)
        parallelize_module(module, mesh, plan)
        if pair.fused > 1:
            for name in pair.first:
                module.get_submodule(name).register_forward_hook(_Regroup(pair.fused))
        for heads in ("H", "G"):
            if hasattr(module, heads):
                setattr(module, heads, getattr(module, heads) // mesh.size())
        if hasattr(module, "attend"):
            module.attend.register_forward_pre_hook(_OwnBias(mesh))  # type: ignore[union-attr, arg-type, operator]


class _Regroup:
    """Of things that lie side by side each process gets its part of every one. They were cut across, so they travel once more."""

    def __init__(self, n: int):
        self.n = n

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: DTensor) -> Tensor:
        whole = output.redistribute(placements=[Replicate()]).unflatten(-1, (self.n, -1))
        return whole.redistribute(placements=[Shard(whole.ndim - 1)]).to_local().flatten(-2)


class _OwnBias:
    """A bias of the scores (ALiBi, relative positions) is made for all heads; each process takes that of its own."""

    def __init__(self, mesh: DeviceMesh):
        self.mesh = mesh

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if len(inputs) < 5 or inputs[4] is None:
            return None
        whole = DTensor.from_local(inputs[4], self.mesh, [Replicate()])
        return (*inputs[:4], whole.redistribute(placements=[Shard(inputs[4].ndim - 3)]).to_local(), *inputs[5:])
