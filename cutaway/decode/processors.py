"""The chain of logits processors: small pure functions, each taking a row of logits and giving a row.

Order: a grammar, then what depends on the text so far (penalties, bias, bad words) comes before temperature, and the filters
after it, as in transformers and vLLM: repetition, presence, frequency, bias, bad words, temperature, top-k, top-p, min-p,
typical.
A removed token has logit -inf. V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.decode.sampling import Sampling


@dataclass(frozen=True)
class History:
    """The tokens so far: those of the prompt, and those generated."""

    prompt: Sequence[int]
    generated: Sequence[int]


Processor = Callable[[Tensor, History], Tensor]


def temperature(logits_V: Tensor, t: float) -> Tensor:
    """logits / t: softmax(logits / t)_i ∝ p_i^(1/t)."""
    return logits_V / t


def top_k(logits_V: Tensor, k: int) -> Tensor:
    """Keep the k largest (and what ties with the k-th), Fan et al. 2018."""
    if k >= len(logits_V):
        return logits_V
    likeliest = next(found for found in _likeliest(logits_V) if len(found) >= k)
    return logits_V.masked_fill(logits_V < logits_V[likeliest].topk(k).values[-1], -math.inf)


def top_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities sum to at least p (nucleus), Holtzman et al. 2020."""
    probabilities_V = logits_V.softmax(-1)
    for likeliest in _likeliest(logits_V):
        ordered, order = probabilities_V[likeliest].sort(descending=True, stable=True)
        sums = ordered.cumsum(-1)
        if sums[-1] >= p or len(likeliest) == len(logits_V):
            keep = sums - ordered < p
            keep[0] = True
            kept = likeliest[order[keep]]
            return torch.full_like(logits_V, -math.inf).index_copy(-1, kept, logits_V[kept])
    raise AssertionError("the last of them are all")


def min_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest, Nguyen et al. 2024."""
    return logits_V.masked_fill(logits_V < logits_V.max(-1, keepdim=True).values + math.log(p), -math.inf)


def typical_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep the tokens whose surprise is nearest to the entropy, until they reach p (Meister et al. 2023)."""
    log_probabilities = logits_V.log_softmax(-1)
    probabilities = log_probabilities.exp()
    entropy = -(probabilities * log_probabilities.masked_fill(probabilities == 0, 0)).sum(-1, keepdim=True)
    order = (-log_probabilities - entropy).abs().argsort(stable=True)
    ordered = probabilities.gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    return _put_back(logits_V.gather(-1, order), order, before < p)


def repetition_penalty(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Seen tokens, the prompt's included: a positive logit is divided, a negative one multiplied (Keskar et al. 2019)."""
    ids = torch.tensor(sorted(set(seen)), dtype=torch.int64, device=logits_V.device)
    values = logits_V[ids]
    return logits_V.scatter(-1, ids, torch.where(values > 0, values / penalty, values * penalty))


def presence_frequency(logits_V: Tensor, generated: Sequence[int], presence: float, frequency: float) -> Tensor:
    """logit - presence · [generated] - frequency · count, over generated tokens (OpenAI's definition)."""
    if not generated:
        return logits_V
    ids, counts = torch.tensor(generated, device=logits_V.device).unique(return_counts=True)
    return logits_V.index_add(-1, ids, -(presence + frequency * counts).to(logits_V.dtype))


def logit_bias(logits_V: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add to single logits."""
    ids = torch.tensor(list(bias), dtype=torch.int64, device=logits_V.device)
    return logits_V.index_add(-1, ids, torch.tensor(list(bias.values()), dtype=logits_V.dtype, device=logits_V.device))


def bad_words(logits_V: Tensor, text: Sequence[int], words: Sequence[Sequence[int]]) -> Tensor:
    """Remove the last token of every sequence whose other tokens have just been written."""
    ends = [word[-1] for word in words if tuple(text[len(text) - len(word) + 1 :]) == tuple(word[:-1])]
    return logits_V.index_fill(-1, torch.tensor(ends, dtype=torch.int64, device=logits_V.device), -math.inf)


def chain(sampling: Sampling, grammar: Processor | None = None) -> list[tuple[str, Processor]]:
    """The processors that these settings ask for, by name, in order; greedy needs no temperature and no filter.

    Args:
        grammar: what lets through only the tokens that may follow (`decode.grammar`); it comes first.
    """
    s = sampling
    steps: list[tuple[str, Processor]] = [("grammar", grammar)] if grammar else []
    if s.repetition_penalty != 1:
        steps.append(
            ("repetition_penalty", lambda x, h: repetition_penalty(x, [*h.prompt, *h.generated], s.repetition_penalty))
        )
    if s.presence_penalty or s.frequency_penalty:
        steps.append(
            ("penalties", lambda x, h: presence_frequency(x, h.generated, s.presence_penalty, s.frequency_penalty))
        )
    if s.logit_bias:
        steps.append(("logit_bias", lambda x, h: logit_bias(x, s.logit_bias)))
    if s.bad_words:
        steps.append(("bad_words", lambda x, h: bad_words(x, [*h.prompt, *h.generated], s.bad_words)))
    if s.temperature == 0:
        return steps
    if s.temperature != 1:
        steps.append(("temperature", lambda x, h: temperature(x, s.temperature)))
    if s.top_k:
        steps.append(("top_k", lambda x, h: top_k(x, s.top_k)))
    if s.top_p < 1:
        steps.append(("top_p", lambda x, h: top_p(x, s.top_p)))
    if s.min_p:
        steps.append(("min_p", lambda x, h: min_p(x, s.min_p)))
    if s.typical_p < 1:
        steps.append(("typical_p", lambda x, h: typical_p(x, s.typical_p)))
    return steps


def process(logits_V: Tensor, sampling: Sampling, history: History, grammar: Processor | None = None) -> Tensor:
    """Run the whole chain on one row."""
    for _, step in chain(sampling, grammar):
        logits_V = step(logits_V, history)
    return logits_V


def _likeliest(logits_V: Tensor) -> Iterator[Tensor]:
    """The tokens within some distance of the likeliest, in order of their ids; ever more of them, at last all.

    Sorting a whole vocabulary takes longer than a small model; what a filter keeps is mostly among a few hundred.
    """
    top = logits_V.max()
    for distance in (8.0, 16.0):
        yield (logits_V > top - distance).nonzero()[:, 0]
    yield torch.arange(len(logits_V), device=logits_V.device)


def _put_back(ordered: Tensor, order: Tensor, keep: Tensor) -> Tensor:
    keep[..., 0] = True
    return torch.empty_like(ordered).scatter(-1, order, ordered.masked_fill(~keep, -math.inf))
