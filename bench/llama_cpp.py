"""llama.cpp through its own C interface (`llama-cpp-python`, built from source with the machine's flags), as a peer.

It is not among the project's requirements: CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary :all: llama-cpp-python
"""

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

FILE_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}  # llama_ftype


def library() -> ModuleType | None:
    """The package, or None with a word about it."""
    try:
        import llama_cpp
    except ImportError:
        print("llama-cpp-python is not installed: the comparison with llama.cpp is left out", file=sys.stderr)
        return None
    return llama_cpp


class LlamaCpp:
    """A model of a file in a context of its own.

    Args:
        threads: for both kinds of work.
        context: positions of all sequences together.
        sequences: how many there may be.
        flash: its fused attention.
    """

    def __init__(self, path: Path, threads: int, context: int, sequences: int = 1, flash: bool = False):
        self.c = found = library()
        assert found is not None
        found.llama_backend_init()
        found.llama_log_set(_quiet(found), ctypes.c_void_p(0))
        self.model = found.llama_model_load_from_file(str(path).encode(), found.llama_model_default_params())
        wanted = found.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch, wanted.n_seq_max = context, 2048, 512, sequences
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.flash_attn_type, wanted.kv_unified = int(flash), True
        self.context = found.llama_init_from_model(self.model, wanted)
        self.batch = found.llama_batch_init(2048, 0, sequences)
        self.V = found.llama_vocab_n_tokens(found.llama_model_get_vocab(self.model))

    def close(self) -> None:
        self.c.llama_batch_free(self.batch)
        self.c.llama_free(self.context)
        self.c.llama_model_free(self.model)

    def clear(self) -> None:
        """Forget all sequences."""
        self.c.llama_memory_clear(self.c.llama_get_memory(self.context), True)

    def read(self, tokens: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Compute (id, position, sequence, wanted); the likeliest tokens after those that are wanted."""
        wanted = []
        for number, (id, position, sequence, asked) in enumerate(tokens):
            self.batch.token[number], self.batch.pos[number] = id, position
            self.batch.n_seq_id[number], self.batch.seq_id[number][0] = 1, sequence
            self.batch.logits[number] = asked
            wanted += [number] if asked else []
        self.batch.n_tokens = len(tokens)
        assert self.c.llama_decode(self.context, self.batch) == 0
        return [int(self._logits(number).argmax()) for number in wanted]

    def generate(self, prompts: Sequence[Sequence[int]], new: int) -> Iterator[list[int]]:
        """Greedy, all at once: prompts together as far as a batch holds them, then a token of each per step."""
        self.clear()
        tokens = [
            (id, position, row, position == len(prompt) - 1)
            for row, prompt in enumerate(prompts)
            for position, id in enumerate(prompt)
        ]
        last = [found for start in range(0, len(tokens), 2048) for found in self.read(tokens[start : start + 2048])]
        yield last
        for step in range(new - 1):
            last = self.read([(id, len(prompts[row]) + step, row, True) for row, id in enumerate(last)])
            yield last

    def _logits(self, number: int) -> np.ndarray:
        return np.ctypeslib.as_array(self.c.llama_get_logits_ith(self.context, number), (self.V,))


def best(path: Path, prompts: Sequence[Sequence[int]], new: int) -> LlamaCpp:
    """With the settings that take the shortest for this work."""
    context = sum(map(len, prompts)) + new * len(prompts)
    made = [
        LlamaCpp(path, threads, context, len(prompts), flash)
        for threads in {1, os.cpu_count() or 1}
        for flash in (False, True)
    ]
    times = [min(seconds(one, prompts, new) for _ in range(2)) for one in made]
    chosen = made[times.index(min(times))]
    for one in made:
        if one is not chosen:
            one.close()
    return chosen


def seconds(peer: LlamaCpp, prompts: Sequence[Sequence[int]], new: int) -> float:
    """For the whole of it."""
    started = time.perf_counter()
    for _ in peer.generate(prompts, new):
        pass
    return time.perf_counter() - started


@contextmanager
def quantised(path: Path, name: str) -> Iterator[Path]:
    """The model of a file in another of llama.cpp's formats, by its own quantiser."""
    found = library()
    assert found is not None
    wanted = found.llama_model_quantize_default_params()
    wanted.ftype, wanted.allow_requantize = FILE_TYPES[name], True
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{path.stem}-{name}.gguf"
        assert found.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(wanted)) == 0
        yield target


_kept: list[object] = []


def _quiet(found: ModuleType) -> object:
    _kept.append(found.llama_log_callback(lambda level, text, data: None))
    return _kept[-1]
