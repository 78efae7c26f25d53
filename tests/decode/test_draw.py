"""Drawing: the right distribution, greedy, seeds, never a removed token."""

import math

import torch
from scipy.stats import chisquare

from cutaway.decode.draw import draw, new_generator


def test_frequencies_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, -math.inf, 2.0, -1.0])
    generator, n = new_generator(0), 20_000
    counts = torch.bincount(torch.tensor([draw(logits, False, generator) for _ in range(n)]), minlength=5)
    assert counts[2] == 0
    kept = [0, 1, 3, 4]
    assert chisquare(counts[kept], n * logits.double().softmax(-1)[kept]).pvalue > 0.01


def test_greedy_takes_the_likeliest():
    assert draw(torch.tensor([0.0, 3.0, 1.0]), True, new_generator(0)) == 1


def test_a_seed_repeats_and_no_seed_does_not():
    logits = torch.zeros(1000)

    def run(seed: int | None) -> list[int]:
        generator = new_generator(seed)
        return [draw(logits, False, generator) for _ in range(5)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)


def test_a_single_token_left_is_drawn():
    logits = torch.full((50,), -math.inf).index_fill(0, torch.tensor(49), -5.0)
    assert all(draw(logits, False, new_generator(seed)) == 49 for seed in range(20))
