"""A training step of a model with 8 experts of which a token uses 2, beside a dense one with as many FLOPs per token.

Both are ours: the Llama shape of `bench.train`, whose feed-forward layers are either two experts wide or eight experts. What the
ratio is below 1 by is the price of routing, and of reading and updating four times the feed-forward weights.
"""

import statistics

import torch

from bench.harness import Row, compare
from bench.loops import ours
from bench.train import LENGTH, ROWS, SHAPE, STEPS
from cutaway.models.families import make_model

EXPERT = 512  # width of one


def run(rounds: int = 5) -> list[Row]:
    torch.manual_seed(0)
    tokens = torch.randint(0, SHAPE["vocab_size"], (STEPS, ROWS, LENGTH))
    dense = make_model({**SHAPE, "model_type": "llama", "intermediate_size": 2 * EXPERT})
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": EXPERT}
    sparse = make_model({**SHAPE, "model_type": "mixtral", **experts})
    return [
        compare(
            "step with 8 experts, 2 used",
            lambda: statistics.median(ours(sparse, tokens)),
            lambda: statistics.median(ours(dense, tokens)),
            "dense, equal FLOPs per token",
            "s",
            higher_is_better=False,
            goal=1 / 1.25,
            rounds=rounds,
        )
    ]
