"""What a forward pass leaves for the backward pass, without any memory: the model is run on fake tensors.

Every operation is dispatched as on a CPU, by autograd and autocast, and computes shapes only; so what is counted is what PyTorch
would keep, for any family. Two passes, of one row and of two, tell what grows with the rows from what does not (copies of the
weights in autocast's format, masks, rotary tables).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef

from cutaway.nn.experts import ExpertLayer, expert_layers, route
from cutaway.train.blocks import all_blocks
from cutaway.train.gradients import autocast


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps.

    Args:
        outside: outside the blocks.
        blocks: in each block, an encoder's first.
        inputs: of each block, which is all that activation checkpointing keeps of it.
    """

    outside: int
    blocks: tuple[int, ...]
    inputs: tuple[int, ...]

    @property
    def total(self) -> int:
        """All of it."""
        return self.outside + sum(self.blocks)

    @property
    def checkpointed(self) -> int:
        """With every block computed again in the backward pass: the blocks' inputs, and one block at a time."""
        return self.outside + sum(self.inputs) + max(self.blocks)

    def minus(self, other: "Kept") -> "Kept":
        """Part by part."""
        return Kept(self.outside - other.outside, _minus(self.blocks, other.blocks), _minus(self.inputs, other.inputs))


def _minus(sizes: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size - other for size, other in zip(sizes, others, strict=True))


def fake_model(build: Callable[[], Any]) -> Any:
    """What `build` makes, of fake tensors: shapes and formats, and no numbers."""
    with FakeTensorMode():
        return build()


def kept_for_backward(model: Any, length: int, precision: torch.dtype, source: int = 0) -> tuple[Kept, Kept]:
    """What one more row keeps, and what is kept once whatever the rows.

    Args:
        model: of fake tensors, with `blocks` that take and give the residual stream first.
        length: tokens of a row; of an encoder-decoder, of its target.
        precision: bfloat16 for autocast.
        source: tokens that an encoder-decoder reads for a row.
    """
    one, two = (_kept(model, rows, length, precision, source) for rows in (1, 2))
    per_row = two.minus(one)
    return per_row, one.minus(per_row)


def _kept(model: Any, rows: int, length: int, precision: torch.dtype, source: int) -> Kept:
    """One forward pass. Of blocks that are alike, the first is run and counts for all."""
    blocks = all_blocks(model)
    weights = {StorageWeakRef(parameter.untyped_storage()) for parameter in model.parameters()}
    kept: dict[StorageWeakRef, Any] = {}
    inside: dict[nn.Module, int] = {}
    given: dict[nn.Module, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if StorageWeakRef(storage) not in weights:
            kept[StorageWeakRef(storage)] = storage  # holding it keeps its identity from being used again
        return tensor

    def size() -> int:
        return sum(storage.nbytes() for storage in kept.values())

    def enter(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        given[block] = inputs[0].nbytes
        inside[block] = -size()

    def leave(block: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        inside[block] += size()

    first = {_kind(block): block for block in reversed(blocks)}
    handles = [block.register_forward_pre_hook(enter) for block in first.values()]
    handles += [block.register_forward_hook(leave) for block in first.values()]
    mode = next(model.parameters()).fake_mode
    try:
        with (
            mode,
            _passing([block for block in blocks if block is not first[_kind(block)]]),
            _even_experts(model),
            autocast(torch.device("cpu"), precision),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            read: tuple[Tensor, ...] = (torch.zeros(rows, length, dtype=torch.int64),)
            if source:  # every block of the decoder reads the memory, and none has it to itself
                read += (keep(model.encode(torch.zeros(rows, source, dtype=torch.int64))),)
            model(*read)
    finally:
        for handle in handles:
            handle.remove()
    outside = size() - sum(inside.values())
    alike = [first[_kind(block)] for block in blocks]
    return Kept(outside, tuple(inside[block] for block in alike), tuple(given[block] for block in alike))


def _kind(block: nn.Module) -> tuple[Any, ...]:
    """Blocks of one kind keep the same."""
    return type(block), *((name, weight.shape, weight.requires_grad) for name, weight in block.named_parameters())


@contextmanager
def _passing(blocks: list[nn.Module]) -> Iterator[None]:
    """Inside, the blocks give what they got."""
    for block in blocks:
        block.forward = lambda stream, *given, **named: stream
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


@contextmanager
def _even_experts(model: nn.Module) -> Iterator[None]:
    """Inside, every expert gets as many tokens as any other: where they would go is a number, which fake tensors lack."""
    layers = expert_layers(model).values()
    for layer in layers:
        layer.routed = partial(_routed_evenly, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.routed  # type: ignore[method-assign]


def _routed_evenly(layer: ExpertLayer, x_ND: Tensor, normalise: bool) -> Tensor:
    """The operations of `nn.experts.apply_experts`, with equal parts."""
    routing = route(layer.gate(x_ND), layer.k, normalise)
    token_of = torch.arange(routing.experts_NK.numel()) // layer.k
    weights = routing.weights_NK.flatten()[token_of].to(x_ND.dtype)[:, None]
    parts = x_ND[token_of].tensor_split(len(layer.experts))
    done = [expert(part) for expert, part in zip(layer.experts, parts, strict=True)]
    return torch.zeros_like(x_ND).index_add_(0, token_of, torch.cat(done) * weights)
