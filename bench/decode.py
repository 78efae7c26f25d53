"""Decoding SmolLM2: new tokens per second, our engine beside transformers' generate, batch 1 and 8, bfloat16 weights in both."""

import tempfile
import time
from pathlib import Path

import torch

from bench.harness import Row, compare
from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded, load
from cutaway.models.packaged import CHAT_MODEL

NEW_TOKENS = 48
PROMPT = "The ship left the harbour in the early morning, and the people on the pier waved until"


def run() -> list[Row]:
    loaded = load(CHAT_MODEL, dtype="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        save_model(loaded.model, loaded.tokenizer, Path(folder) / "smollm2")
        peer = _peer(Path(folder) / "smollm2")
    ids = loaded.tokenizer.encode(PROMPT)
    return [
        compare(
            f"decode batch {batch}",
            lambda batch=batch: _ours(loaded, ids, batch),
            lambda batch=batch: _theirs(peer, ids, batch),
            "transformers generate",
            "tokens/s",
        )
        for batch in (1, 8)
    ]


def _ours(loaded: Loaded, ids: list[int], batch: int) -> float:
    engine = Engine(loaded, EngineConfig(max_batch=batch, context=256))
    started = time.perf_counter()
    found = engine.generate([ids] * batch, GREEDY, NEW_TOKENS, ignore_end=True)
    assert all(len(one.ids) == NEW_TOKENS for one in found)
    return batch * NEW_TOKENS / (time.perf_counter() - started)


def _theirs(model: torch.nn.Module, ids: list[int], batch: int) -> float:
    rows = torch.tensor([ids] * batch)
    started = time.perf_counter()
    found = model.generate(
        rows,
        attention_mask=torch.ones_like(rows),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        pad_token_id=0,
    )
    assert found.shape[1] == len(ids) + NEW_TOKENS
    return batch * NEW_TOKENS / (time.perf_counter() - started)


def _peer(folder: Path) -> torch.nn.Module:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
