"""Reading a prompt of 512 tokens, beside llama.cpp on the packaged file; and again, when its beginning is known."""

import time

from bench import llama_cpp
from bench.batch import seconds
from bench.decode import engine_of
from bench.harness import Row, compare
from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine
from cutaway.infer.request import Request
from cutaway.models.load import find, load
from cutaway.models.packaged import CHAT_MODEL

PROMPT, KNOWN = 512, 2000


def run() -> list[Row]:
    path = find(CHAT_MODEL)
    engine = engine_of(load(path, dtype="stored"), 1, 4096)
    prompt = [1000 + 7 * place for place in range(PROMPT)]
    rows = [_prefix(engine)]
    if llama_cpp.library() is None:
        return rows
    peer = llama_cpp.best(path, [prompt], 1)
    rows.append(
        compare(
            f"prefill of {PROMPT}",
            lambda: PROMPT / seconds(engine, [prompt], 1),
            lambda: PROMPT / llama_cpp.seconds(peer, [prompt], 1),
            "llama.cpp",
            "tokens/s",
            goal=1.3,
        )
    )
    return rows


def _prefix(engine: Engine) -> Row:
    """The first token after a prefix of 2,000 tokens, found in the cache or not."""
    prompt = [1000 + 7 * place for place in range(KNOWN)]
    known = Request([*prompt, 5], GREEDY, 1, ignore_end=True)
    engine.run([known])
    return compare(
        f"first token, prefix of {KNOWN:,} known",
        lambda: _once(engine, [*prompt, 6]),
        lambda: seconds(engine, [[*prompt, 6]], 1),
        "ours, prefix not known",
        "s",
        higher_is_better=False,
        goal=10,
    )


def _once(engine: Engine, prompt: list[int]) -> float:
    started = time.perf_counter()
    engine.run([Request(prompt, GREEDY, 1, ignore_end=True)])
    return time.perf_counter() - started
