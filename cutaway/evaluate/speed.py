"""How fast a model answers, and what that takes: time to the first token and between tokens, tokens per second, memory, quality.

Requests come all at once and read different prompts of random tokens, so that none finds another's work; each writes as many
tokens as asked for. Every number format is measured in a process of its own, whose memory is its own.
"""

import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cutaway.core.config import Config


class SpeedConfig(Config):
    """What is asked of the model."""

    prompt: int = Field(512, ge=1, description="tokens of each prompt")
    reply: int = Field(64, ge=2, description="tokens of each reply")
    requests: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 4, 16), min_length=1, description="how many at once, one after the other"
    )
    rounds: int = Field(3, ge=1, description="times each is measured; medians are reported")
    dtypes: tuple[str, ...] = Field(
        (), description="number formats of the weights; none: the file's own blocks where it has some, and auto"
    )
    context: int = Field(0, ge=0, description="positions of a sequence; 0: prompt and reply")
    seed: int = 0


@dataclass(frozen=True)
class Speed:
    """Medians over rounds.

    Args:
        dtype: format of the weights.
        requests: how many ran at once.
        first_s: from the question to the first token, in the middle of the requests, and of the slowest.
        between_s: from token to token.
        prefill, decode, all: tokens per second: of prompts until the last first token, of replies since the first one, of both
            in the whole time.
        memory: bytes of the process at its most.
        loss: nats per token on the text.
    """

    dtype: str
    requests: int
    first_s: float
    slowest_first_s: float
    between_s: float
    prefill: float
    decode: float
    all: float
    memory: int
    loss: float


def measure(model: str, config: SpeedConfig, text: Path) -> Iterator[Speed]:
    """One after the other.

    Args:
        model: what `models.load` takes.
        text: a file, to tell what a format costs in quality.
    """
    for dtype in config.dtypes or _dtypes(model):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            yield from pool.submit(_of_format, model, dtype, config, text).result()


def rows(found: list[Speed]) -> list[dict[str, Any]]:
    """As plain values."""
    return [asdict(one) for one in found]


def _dtypes(model: str) -> tuple[str, ...]:
    from cutaway.models.load import STORED, find

    return (STORED, "auto") if Path(find(model)).suffix == ".gguf" else ("auto",)


def _of_format(model: str, dtype: str, config: SpeedConfig, text: Path) -> list[Speed]:
    from cutaway.data.examples import Skipped, tokenize
    from cutaway.data.read import read_records
    from cutaway.evaluate.perplexity import perplexity
    from cutaway.infer.engine import Engine, EngineConfig
    from cutaway.models.load import load

    loaded = load(model, dtype=dtype)
    length = config.prompt + config.reply
    engine = Engine(loaded, EngineConfig(max_batch=max(config.requests), context=config.context or length))
    draw = random.Random(config.seed)
    found = [_median([_once(engine, n, config, draw) for _ in range(config.rounds)]) for n in config.requests]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    examples = tokenize(read_records(text), loaded.tokenizer, Skipped())
    loss = perplexity(loaded.model, loaded.tokenizer, examples).loss
    return [
        Speed(dtype, n, **numbers, memory=memory, loss=loss) for n, numbers in zip(config.requests, found, strict=True)
    ]


def _once(engine: Any, n: int, config: SpeedConfig, draw: random.Random) -> dict[str, float]:
    from cutaway.decode.sampling import Sampling
    from cutaway.infer.request import Request

    vocabulary = range(engine.model.embedding.num_embeddings)
    prompts = [draw.choices(vocabulary, k=config.prompt) for _ in range(n)]
    times: dict[str, list[float]] = {}
    started = time.perf_counter()
    for prompt in prompts:
        request = Request(prompt, Sampling(temperature=0), config.reply, ignore_end=True)
        times[engine.add(request)] = []
    while not engine.idle:
        outputs = engine.step()
        now = time.perf_counter() - started
        for output in outputs:
            if output.token_id is not None:
                times[output.request_id].append(now)
    first = [found[0] for found in times.values()]
    ended = max(found[-1] for found in times.values())
    gaps = [later - before for found in times.values() for before, later in pairwise(found)]
    written = n * config.reply
    return {
        "first_s": statistics.median(first),
        "slowest_first_s": max(first),
        "between_s": statistics.median(gaps),
        "prefill": n * config.prompt / max(first),
        "decode": n * (config.reply - 1) / (ended - min(first)),
        "all": (n * config.prompt + written) / ended,
    }


def _median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
