"""A Llama-style decoder on the CPU by `native/decoder.cpp`: quantised weights, a paged cache, one call per step.

Everything is read from the ordinary model: its weights in their blocks, its norms, its rotary frequencies. What a call computes
is what the modules compute on vectors of 8 bits, with keys and values kept in half precision.

Shapes: N tokens of a step, L layers, D model width, H query heads, G key-value heads, K head width, P positions of a block, V
vocabulary.
"""

import ctypes
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cutaway.core.device import pick_device
from cutaway.core.native import native_library
from cutaway.infer.blocks import BLOCK_SIZE
from cutaway.infer.runner import Work
from cutaway.models.llama import Llama
from cutaway.models.load import STORED, find
from cutaway.nn.cache import lazy_zeros
from cutaway.nn.rope import rope_frequencies
from cutaway.quant import kernels
from cutaway.quant.kernels import Matrix
from cutaway.quant.tensor import QuantTensor

_CPU = torch.device("cpu")
_WHOLE = 32  # columns of a group, by which widths must divide


class _Layer(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("attention_norm", "feedforward_norm", "q_norm", "k_norm")),
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
    ]


class _Model(ctypes.Structure):
    _fields_: ClassVar = [
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_void_p) for name in ("final_norm", "cosines", "sines")),
        ("embedding", Matrix),
        ("head", Matrix),
        *((name, ctypes.c_int32) for name in ("layer_count", "D", "H", "G", "K", "F", "window")),
        ("eps", ctypes.c_float),
    ]


class _Step(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("ids", "positions", "rows", "tables", "wanted", "logits")),
        *((name, ctypes.c_int32) for name in ("tokens", "wanted_count", "blocks_per_row", "threads")),
    ]


class NativeDecoder:
    """A `runner.Runner`.

    Args:
        model: one that `suits`.
        n_blocks: blocks of the cache, for all sequences together.
        context: positions that a sequence may have.
    """

    def __init__(self, model: Llama, n_blocks: int, context: int):
        c = model.config
        shape = (len(model.blocks), n_blocks, c.num_key_value_heads)
        self.n_blocks, self.V = n_blocks, c.vocab_size
        self.keys_LNGKP = lazy_zeros((*shape, c.head_dim, BLOCK_SIZE), torch.float16, _CPU)
        self.values_LNGPK = lazy_zeros((*shape, BLOCK_SIZE, c.head_dim), torch.float16, _CPU)
        self._kept: list[Tensor] = []
        frequencies, factor = rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling, c.context)
        angles = torch.arange(context)[:, None] * frequencies
        self._layers = (_Layer * len(model.blocks))(*self._read(model))
        norm: Any = model.final_norm
        self._model = _Model(
            self._layers,
            *(self._floats(table) for table in (norm.weight, angles.cos() * factor, angles.sin() * factor)),
            self._matrix(model.embedding),
            self._matrix(model.lm_head),
            len(model.blocks),
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            c.intermediate_size,
            model.window or 0,
            c.rms_norm_eps,
        )
        library = native_library("decoder")
        assert library is not None, "ask `suits` first"
        assert library.decoder_block() == BLOCK_SIZE
        self._step = library.decoder_step

    def run(self, work: Sequence[Work]) -> Tensor:
        """The logits that are asked for, in order, float32; see `Runner`."""
        ids = [id for one in work for id in one.ids]
        positions = [one.start + number for one in work for number in range(len(one.ids))]
        rows = [row for row, one in enumerate(work) for _ in one.ids]
        firsts = accumulate((len(one.ids) for one in work), initial=0)
        wanted = [first + number for first, one in zip(firsts, work, strict=False) for number in one.wanted]
        longest = max(len(one.table) for one in work)
        tables = [[*one.table, *(0,) * (longest - len(one.table))] for one in work]
        inputs = [torch.tensor(values, dtype=torch.int32) for values in (ids, positions, rows, tables, wanted)]
        logits = torch.empty(len(wanted), self.V)
        step = _Step(
            *(values.data_ptr() for values in inputs),
            logits.data_ptr(),
            len(ids),
            len(wanted),
            longest,
            torch.get_num_threads(),
        )
        self._step(ctypes.byref(self._model), ctypes.byref(step))
        return logits

    def copy(self, source: int, target: int) -> None:
        """Copy one block over another."""
        for cache in (self.keys_LNGKP, self.values_LNGPK):
            cache[:, target] = cache[:, source]

    def _read(self, model: Llama) -> Iterator[_Layer]:
        blocks: Any = model.blocks
        for number, block in enumerate(blocks):
            at = block.self_attn
            norms = [block.input_layernorm, block.post_attention_layernorm]
            norms += [at.q_norm, at.k_norm] if at.qk_norm else []
            pointers = [self._floats(norm.weight) for norm in norms] + [None] * (4 - len(norms))
            parts = (
                at.q_proj,
                at.k_proj,
                at.v_proj,
                at.o_proj,
                block.mlp.gate_proj,
                block.mlp.up_proj,
                block.mlp.down_proj,
            )
            cache = (self.keys_LNGKP[number].data_ptr(), self.values_LNGPK[number].data_ptr())
            yield _Layer(*pointers, *map(self._matrix, parts), *cache)

    def _floats(self, values: Tensor) -> int:
        self._kept.append(values.detach().float().contiguous())
        return self._kept[-1].data_ptr()

    def _matrix(self, module: nn.Module) -> Matrix:
        weight: Any = module.weight
        bias = getattr(module, "bias", None)
        self._kept += [weight.tiles] if bias is None else [weight.tiles, bias.detach().float().contiguous()]
        return kernels.matrix(weight.tiles, weight.format, weight.shape[0], None if bias is None else self._kept[-1])


def serving_dtype(model: str, dtype: str = "auto", device: str = "auto") -> str:
    """The number format of weights that are only read: the blocks of a `.gguf` file where our kernels multiply with them, if
    nothing else is asked for."""
    in_blocks = dtype == "auto" and find(model).suffix == ".gguf" and kernels.available(pick_device(device))
    return STORED if in_blocks else dtype


def block_bytes(model: Llama) -> int:
    """Memory of one block of its cache."""
    c = model.config
    return 2 * len(model.blocks) * c.num_key_value_heads * c.head_dim * BLOCK_SIZE * torch.float16.itemsize


def suits(model: nn.Module) -> bool:
    """Whether `NativeDecoder` can have this model: a dense Llama shape, all of whose matrices are quantised, and a compiler."""
    if type(model) is not Llama or not kernels.available(model.embedding.weight.device):
        return False
    c = model.config
    widths = (c.hidden_size, c.num_attention_heads * c.head_dim, c.intermediate_size)
    weights = {module: getattr(module, "weight", None) for module in model.modules()}
    matrices = {
        module: weight for module, weight in weights.items() if isinstance(weight, Tensor) and weight.dim() == 2
    }
    return (
        all(width % _WHOLE == 0 for width in widths)
        and c.head_dim % BLOCK_SIZE == 0
        and c.rope_scaling.rope_type != "dynamic"
        and not c.attention_sinks
        and all(type(module) in (nn.Linear, nn.Embedding) for module in matrices)
        and all(isinstance(weight, QuantTensor) for weight in matrices.values())
        and native_library("decoder") is not None
    )
