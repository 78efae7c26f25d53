"""Training tokens per second, on the same model, the same start and the same tokens.

A Llama shape of 16M parameters, vocabulary 8,192, context 512; and GPT-2 of 124M beside nanoGPT, where `NANOGPT` names a folder
that holds it. What is timed is the loop from the start of its second step to the start of its last.
"""

import os
import statistics
import sys
from typing import Any

import torch

from bench.harness import Row, compare
from bench.loops import by_hand, nano_gpt, ours, trainer
from cutaway.models.gpt2 import GPT2, GPT2Config
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.train.throughput import flops_per_token, measure_peak

SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
STEPS, ROWS, LENGTH = 6, 4, 512


def run(rounds: int = 5) -> list[Row]:
    torch.manual_seed(0)
    tokens = torch.randint(0, SHAPE["vocab_size"], (STEPS, ROWS, LENGTH))
    model = Llama(LlamaConfig(**SHAPE))
    float32, bfloat16 = (_same_weights(peer_model(), model) for _ in range(2))
    bfloat16 = bfloat16.bfloat16()
    name, shares = "train, Llama 16M", []

    def our_rate() -> float:
        peak = measure_peak(torch.device("cpu"), torch.bfloat16)
        rate = _rate(ours(model, tokens), ROWS * LENGTH)
        shares.append(rate * flops_per_token(model, LENGTH) / peak)
        return rate

    rows = [
        compare(
            name,
            our_rate,
            lambda: _rate(trainer(float32, tokens), ROWS * LENGTH),
            "transformers Trainer, float32",
            "tokens/s",
            goal=1.9,
            rounds=rounds,
        ),
        compare(
            name,
            our_rate,
            lambda: _rate(by_hand(bfloat16, tokens), ROWS * LENGTH),
            "transformers: bfloat16 weights, compiled, chunked loss",
            "tokens/s",
            goal=1.1,
            rounds=rounds,
        ),
    ]
    share = statistics.median(shares[1:])
    rows.append(
        Row(
            f"{name}, share of peak",
            share,
            None,
            None,
            "of a bfloat16 product of 1,024 x 1,024",
            goal=0.6,
            spread=(min(shares[1:]), max(shares[1:])),
        )
    )
    return rows + _gpt2(rounds)


def _gpt2(rounds: int) -> list[Row]:
    """GPT-2's shape beside nanoGPT; nothing where that is not at hand."""
    folder = os.environ.get("NANOGPT")
    if not folder:
        print("NANOGPT names no folder: the comparison with nanoGPT is left out", file=sys.stderr)
        return []
    sys.path.insert(0, folder)
    from model import GPT, GPTConfig

    steps, length = 4, 1024
    tokens = torch.randint(0, 50257, (steps, 1, length))
    model = GPT2(GPT2Config())
    peer = GPT(GPTConfig(block_size=length, vocab_size=50257, dropout=0.0))
    return [
        compare(
            "train, GPT-2 124M",
            lambda: _rate(ours(model, tokens), length),
            lambda: _rate(nano_gpt(peer, tokens), length),
            "nanoGPT, compiled, bfloat16",
            "tokens/s",
            goal=1.2,
            rounds=rounds,
        )
    ]


def peer_model() -> Any:
    """transformers' model of the shape."""
    from transformers import LlamaConfig as PeerConfig
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(PeerConfig(**SHAPE))


def _same_weights(peer: Any, model: Any) -> Any:
    peer.load_state_dict(model.state_dict())
    return peer


def _rate(seconds: list[float], tokens_per_step: int) -> float:
    return tokens_per_step / statistics.median(seconds)
