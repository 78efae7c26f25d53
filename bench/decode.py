"""Decoding SmolLM2: new tokens per second.

Beside transformers' generate, batch 1 and 8, bfloat16 weights in both; and one request beside llama.cpp on the same files: the
packaged one, and others that llama.cpp's own quantiser makes of it.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from bench import llama_cpp
from bench.harness import Row, compare
from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded, find, load
from cutaway.models.packaged import CHAT_MODEL

NEW_TOKENS = 48
PROMPT = "The ship left the harbour in the early morning, and the people on the pier waved until"
GOALS = {"Q4_1": 1.25, "Q4_0": 1.25, "Q4_K_M": None, "Q8_0": 1.1, "BF16": 1.1}


def run() -> list[Row]:
    return [*_beside_transformers(), *_beside_llama_cpp()]


def _beside_transformers() -> list[Row]:
    loaded = load(CHAT_MODEL, dtype="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        save_model(loaded.model, loaded.tokenizer, Path(folder) / "smollm2")
        peer = _peer(Path(folder) / "smollm2")
    ids = loaded.tokenizer.encode(PROMPT)
    return [
        compare(
            f"decode batch {batch}",
            lambda batch=batch: new_tokens(engine_of(loaded, batch, 256), [ids] * batch, NEW_TOKENS),
            lambda batch=batch: _theirs(peer, ids, batch),
            "transformers generate",
            "tokens/s",
        )
        for batch in (1, 8)
    ]


def _beside_llama_cpp() -> list[Row]:
    if llama_cpp.library() is None:
        return []
    packaged, rows = find(CHAT_MODEL), []
    for name, goal in GOALS.items():
        with nullcontext(packaged) if name == "Q4_1" else llama_cpp.quantised(packaged, name) as path:
            loaded = load(path, dtype="stored")
            ids = loaded.tokenizer.encode(PROMPT)
            engine, peer = engine_of(loaded, 1, 256), llama_cpp.best(path, [ids], NEW_TOKENS)
            rows.append(
                compare(
                    f"decode batch 1, {name}",
                    lambda engine=engine, ids=ids: new_tokens(engine, [ids], NEW_TOKENS),
                    lambda peer=peer, ids=ids: _rate(peer, ids),
                    "llama.cpp",
                    "tokens/s",
                    goal=goal,
                    rounds=7,
                )
            )
            peer.close()
    return rows


def engine_of(loaded: Loaded, batch: int, context: int) -> Engine:
    return Engine(loaded, EngineConfig(max_batch=batch, context=context, max_num_batched_tokens=4096))


def new_tokens(engine: Engine, prompts: Sequence[Sequence[int]], new: int) -> float:
    """Tokens per second after the first of each: what reads the prompts is not counted."""
    for prompt in prompts:
        engine.add(request(prompt, new))
    times = []
    while not engine.idle:
        engine.step()
        times.append(time.perf_counter())
    return len(prompts) * (new - 1) / (times[-1] - times[-new])


def request(prompt: Sequence[int], new: int) -> Request:
    return Request(prompt, GREEDY, new, ignore_end=True, cache_salt=str(time.perf_counter_ns()))


def _rate(peer: llama_cpp.LlamaCpp, ids: Sequence[int]) -> float:
    times = [time.perf_counter() for _ in peer.generate([ids], NEW_TOKENS)]
    return (NEW_TOKENS - 1) / (times[-1] - times[0])


def _theirs(model: torch.nn.Module, ids: list[int], batch: int) -> float:
    rows = torch.tensor([ids] * batch)
    rates = []
    for new in (1, NEW_TOKENS):
        started = time.perf_counter()
        model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=False,
            max_new_tokens=new,
            min_new_tokens=new,
            pad_token_id=0,
        )
        rates.append(time.perf_counter() - started)
    return batch * (NEW_TOKENS - 1) / (rates[1] - rates[0])


def _peer(folder: Path) -> torch.nn.Module:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
