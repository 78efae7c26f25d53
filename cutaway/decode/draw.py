"""Draw a token from processed logits."""

import math

import torch
from torch import Tensor


def draw(logits_V: Tensor, greedy: bool, generator: torch.Generator) -> int:
    """One token id: the likeliest, or a draw from softmax(logits).

    Each request has a generator of its own, on the CPU, so that what it draws depends neither on the others in its batch
    nor on the device. The draw inverts the cumulative distribution of the probabilities in float64, at one uniform number.
    """
    if greedy:
        return int(logits_V.argmax())
    possible = (logits_V > -math.inf).nonzero()[:, 0]  # filters leave few
    probabilities = logits_V[possible].double().softmax(-1).cpu()
    cumulative = probabilities.cumsum(-1)
    point = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    drawn = int(torch.searchsorted(cumulative, point, right=True))
    if drawn == len(probabilities):  # rounding may put the point at the very end
        drawn = int(probabilities.nonzero()[-1])
    return int(possible[drawn])


def new_generator(seed: int | None) -> torch.Generator:
    """A generator with this seed, or with one that the system draws."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
