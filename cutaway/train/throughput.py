"""How fast training could be and how fast it is: FLOPs per token, the machine's peak, and when compiling pays."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from cutaway.core.errors import ConfigError, ResourceError
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.nn.multi_head import CrossAttention
from cutaway.train.blocks import all_blocks
from cutaway.train.parameters import active_shares

Compile = Literal["auto", "on", "off"]

_COMPILE_PAYS_FROM = 1e14
"""FLOPs of a run: about ten minutes on two CPU cores, of which compiling takes half a minute and saves a fifth (measured)."""


def flops_per_token(model: Any, length: int) -> float:
    """Floating-point operations of one training token, in a row of `length` positions; half of an encoder-decoder's are its
    source's."""
    source = length // 2 if isinstance(model, EncoderDecoder) else 0
    return flops_per_row(model, length - source, source) / length


def flops_per_row(model: Any, length: int, source: int = 0) -> float:
    """Floating-point operations of one row in training (Chowdhery et al. 2022, appendix B).

    2 per weight of a linear layer and position forward, 2 for the gradient of its input and 2 for that of the weight where it
    trains; of experts, those that a position goes through. Attention products of half of all pairs of positions, as in a causal
    row; of an encoder-decoder also those of all pairs within the source, and of source and target.

    Args:
        length: positions; of an encoder-decoder, of the target.
        source: positions that go through the encoder and to the keys and values of what the decoder reads.
    """
    total = 0.0
    share, of_source = active_shares(model), _of_source(model)
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear) and weight is not None:
            positions = source if module in of_source else length
            total += positions * weight.numel() * (6 if weight.requires_grad else 4) * share.get(id(weight), 1.0)
    if hasattr(model, "blocks"):
        writing, reading = len(model.blocks), len(all_blocks(model)) - len(model.blocks)
        pairs = writing * (length**2 / 2 + length * source) + reading * source**2
        total += 12.0 * _attention_width(model) * pairs
    return total


def _attention_width(model: Any) -> int:
    """Of all heads together: the model's, but for an encoder-decoder that says otherwise (T5's heads may be wider)."""
    config = model.config
    if isinstance(model, EncoderDecoder) and hasattr(config, "kv_heads"):
        return config.kv_heads * config.kv_width
    return model.embedding.embedding_dim if hasattr(model, "embedding") else config.width


def _of_source(model: Any) -> set[nn.Module]:
    """The modules that a source's positions go through; none, where a model reads one text."""
    if not isinstance(model, EncoderDecoder):
        return set()
    read = [part for module in model.modules() if isinstance(module, CrossAttention) for part in (module.k, module.v)]
    return {part for module in (*model.encoder_blocks, *read) for part in module.modules()}


def measure_peak(device: torch.device, precision: torch.dtype, seconds: float = 0.2) -> float:
    """FLOP/s of a large matrix product, the best of a few within `seconds`: what "share of peak" is a share of."""
    size = 4096 if device.type == "cuda" else 1024
    a, b = torch.ones(2, size, size, device=device, dtype=precision)
    a @ b
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def pays_to_compile(model: Any, choice: Compile, device: torch.device, flops: float) -> bool:
    """Whether to compile the model's blocks, in a run that takes `flops` in all.

    `auto` depends on the run and the compiler alone, never on a measurement: a resumed run must choose as before.

    Raises:
        ConfigError, ResourceError: `on`, and there are no blocks, or no C++ compiler.
    """
    if not hasattr(model, "blocks"):
        if choice == "on":
            raise ConfigError("this model has no blocks to compile", field="loop.compile", value=choice, hint="off")
        return False
    has_compiler = device.type == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    if choice == "on" and not has_compiler:
        raise ResourceError("there is no C++ compiler", field="loop.compile", value=choice, hint="g++, or off")
    return choice == "on" or (choice == "auto" and has_compiler and flops >= _COMPILE_PAYS_FROM)


@contextmanager
def compiled_blocks(model: Any, wanted: bool) -> Iterator[None]:
    """Inside, the model's blocks run compiled; module names, weights and hooks stay as they are."""
    blocks = all_blocks(model) if wanted else []
    for block in blocks:
        block.forward = torch.compile(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
