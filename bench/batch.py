"""Sixteen requests at once, 128 tokens in and 64 out: tokens per second in all, beside llama.cpp in one batch, packaged file."""

import time
from collections.abc import Sequence

from bench import llama_cpp
from bench.decode import engine_of, request
from bench.harness import Row, compare
from cutaway.infer.engine import Engine
from cutaway.models.load import find, load
from cutaway.models.packaged import CHAT_MODEL

REQUESTS, PROMPT, NEW = 16, 128, 64


def run() -> list[Row]:
    if llama_cpp.library() is None:
        return []
    path = find(CHAT_MODEL)
    prompts = [[1000 + 131 * row + 7 * place for place in range(PROMPT)] for row in range(REQUESTS)]
    engine = engine_of(load(path, dtype="stored"), REQUESTS, PROMPT + NEW)
    peer = llama_cpp.best(path, prompts, NEW)
    tokens = REQUESTS * (PROMPT + NEW)
    return [
        compare(
            f"{REQUESTS} at once, {PROMPT} in, {NEW} out",
            lambda: tokens / seconds(engine, prompts, NEW),
            lambda: tokens / llama_cpp.seconds(peer, prompts, NEW),
            "llama.cpp, one batch",
            "tokens/s in all",
            goal=1.2,
        )
    ]


def seconds(engine: Engine, prompts: Sequence[Sequence[int]], new: int) -> float:
    """From the first to the last token of all."""
    started = time.perf_counter()
    for prompt in prompts:
        engine.add(request(prompt, new))
    while not engine.idle:
        engine.step()
    return time.perf_counter() - started
