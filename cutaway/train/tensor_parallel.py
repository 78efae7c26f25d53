"""Tensor parallelism (Shoeybi et al. 2019, section 3): several processes compute each product of a block together.

Products come in pairs. The first of a pair is cut by its outputs, heads or hidden units, the second by its inputs; so each
process has its own heads and units to itself, and one sum at the end of a pair is all that is exchanged. Embedding, norms and
router are computed by all alike, and need no exchange: their inputs are the same.
"""

from collections.abc import Callable
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
from cutaway.models import bert, composed, gpt2, llama, mixtral, t5, transformer
from cutaway.nn.experts import ExpertLayer
from cutaway.nn.feedforward import FeedForward, GatedFeedForward
from cutaway.nn.multi_head import CrossAttention, SelfAttention
from cutaway.train.blocks import all_blocks


@dataclass(frozen=True)
class Pair:
    """Names in a module.

    Args:
        first: products cut by their outputs.
        second: the product that takes what comes of these.
        fused: how many things lie side by side in the outputs of a first one (queries, keys and values).
        heads: the part that knows how many heads there are, where it is not the module itself.
    """

    first: tuple[str, ...]
    second: str
    fused: int = 1
    heads: str = ""


QKV, IN_SELF = ("q_proj", "k_proj", "v_proj"), ("attention.self.query", "attention.self.key", "attention.self.value")
PAIRS: list[tuple[type[nn.Module], Pair]] = [
    (llama.Attention, Pair(QKV, "o_proj")),
    (composed.GroupedAttention, Pair(QKV, "o_proj")),
    (gpt2.Attention, Pair(("c_attn",), "c_proj", fused=3)),
    (gpt2.MLP, Pair(("c_fc",), "c_proj")),
    (GatedFeedForward, Pair(("gate_proj", "up_proj"), "down_proj")),
    (FeedForward, Pair(("up_proj",), "down_proj")),
    (mixtral.Expert, Pair(("w1", "w3"), "w2")),
    (bert.Block, Pair(IN_SELF, "attention.output.dense", heads="attention.self")),
    (bert.Block, Pair(("intermediate.dense",), "output.dense")),
    (SelfAttention, Pair(("q", "k", "v"), "o")),
    (CrossAttention, Pair(("q", "k", "v"), "o")),
    (t5.DenseReLU, Pair(("wi",), "wo")),
    (t5.DenseGatedGELU, Pair(("wi_0", "wi_1"), "wo")),
    (transformer.FeedForward, Pair(("up",), "down")),
]
"""The kinds of module that can be split, and what of them; a new kind is one line."""


def split_blocks(model: Any, mesh: DeviceMesh, whole_experts: bool) -> None:
    """Cut the blocks of a model over the processes of `mesh`; module names stay as they are.

    Args:
        whole_experts: the experts are spread over processes already, each of them whole.

    Raises:
        ConfigError: a kind of module that is not in `PAIRS`, or a number of heads or units that does not divide.
    """
    check_blocks(model, mesh.size(), whole_experts)
    for module, pair in _pairs(model, whole_experts):
        _split(module, pair, mesh)


def keep_part(model: Any, n: int, whole_experts: bool) -> None:
    """Leave of a model of fake tensors what one of `n` processes would have of it, in shapes; as `split_blocks`."""
    check_blocks(model, n, whole_experts)
    for module, pair in _pairs(model, whole_experts):
        for name, axis in [*((name, 0) for name in pair.first), (pair.second, 1)]:
            linear = module.get_submodule(name)
            for kind, weight in list(linear.named_parameters()):
                if axis < weight.ndim:  # the second one's bias is whole
                    shape = [size // n if at == axis else size for at, size in enumerate(weight.shape)]
                    setattr(linear, kind, nn.Parameter(weight.new_empty(shape), weight.requires_grad))
        _own_heads(module, pair, n, lambda bias: bias[..., : bias.shape[-3] // n, :, :])


def check_blocks(model: Any, n: int, whole_experts: bool = False) -> None:
    """Refuse a model of which a block cannot be cut into `n`."""
    covered: set[nn.Module] = set()
    for module, pair in _pairs(model, whole_experts):
        covered.update(module.get_submodule(name) for name in (*pair.first, pair.second))
        for name, heads in (("query heads", "H"), ("key-value heads", "G")):
            _check_divides(n, getattr(module.get_submodule(pair.heads), heads, n), name)
        for name in pair.first:
            units = getattr(module.get_submodule(name), "out_features", None)
            _check_divides(n, units or n, f"outputs of {name}")
    for block in all_blocks(model):
        for name, module in _parts(block, whole_experts):
            if isinstance(module, ExpertLayer):
                covered.update(child for child in module.children() if isinstance(child, nn.Linear))  # routers
            if isinstance(module, nn.Linear) and (module not in covered or type(module) is not nn.Linear):
                raise ConfigError(
                    f"{name} in {type(block).__module__}.{type(block).__name__} is of a kind that cannot be split",
                    field="loop.parallel.tensor",
                    value=n,
                    hint=f"1; these can: {', '.join(sorted({f'{kind.__module__}.{kind.__name__}' for kind, _ in PAIRS}))}",
                )


def _pairs(model: Any, whole_experts: bool) -> list[tuple[nn.Module, Pair]]:
    """What can be split in the blocks of a model."""
    modules = [module for block in all_blocks(model) for _, module in _parts(block, whole_experts)]
    return [(module, pair) for module in modules for kind, pair in PAIRS if type(module) is kind]


def _parts(block: nn.Module, whole_experts: bool) -> list[tuple[str, nn.Module]]:
    """The modules of a block, without experts that stay whole."""
    layers = [module for module in block.modules() if isinstance(module, ExpertLayer) and whole_experts]
    whole = {part for layer in layers for part in layer.experts.modules()}
    return [(name, module) for name, module in block.named_modules() if module not in whole]


def _check_divides(n: int, number: int, what: str) -> None:
    if number % n:
        raise ConfigError(f"does not divide the {number} {what} of the model", field="loop.parallel.tensor", value=n)


def _split(module: nn.Module, pair: Pair, mesh: DeviceMesh) -> None:
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

    def own(bias: Tensor) -> Tensor:
        whole = DTensor.from_local(bias, mesh, [Replicate()])
        return whole.redistribute(placements=[Shard(bias.ndim - 3)]).to_local()

    _own_heads(module, pair, mesh.size(), own)


def _own_heads(module: nn.Module, pair: Pair, n: int, own: Callable[[Tensor], Tensor]) -> None:
    """Attention has an n-th of the heads; `own` takes theirs of a bias of the scores (ALiBi, relative positions), which is made
    for all heads."""
    owner = module.get_submodule(pair.heads)
    for heads in ("H", "G"):
        if hasattr(owner, heads):
            setattr(owner, heads, getattr(owner, heads) // n)
    if hasattr(owner, "attend"):
        owner.attend.register_forward_pre_hook(_OwnBias(own))  # type: ignore[union-attr, arg-type, operator]


class _Regroup:
    """Of things that lie side by side each process gets its part of every one. They were cut across, so they travel once more."""

    def __init__(self, n: int):
        self.n = n

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: DTensor) -> Tensor:
        whole = output.redistribute(placements=[Replicate()]).unflatten(-1, (self.n, -1))
        return whole.redistribute(placements=[Shard(whole.ndim - 1)]).to_local().flatten(-2)


class _OwnBias:
    """A bias of the scores that is made for all heads, before attention has those of one process."""

    def __init__(self, own: Callable[[Tensor], Tensor]):
        self.own = own

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if len(inputs) < 5 or inputs[4] is None:
            return None
        return (*inputs[:4], self.own(inputs[4]), *inputs[5:])
