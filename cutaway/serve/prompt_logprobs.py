"""How likely a prompt's own tokens were: what `echo` with `logprobs` adds, and evaluation harnesses score choices by.

T positions, N positions at a time, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch

from cutaway.infer.request import TokenLogprob

_CHUNK = 256  # positions read at a time: it bounds the memory of a long prompt


@torch.inference_mode()
def prompt_logprobs(model: Any, ids: Sequence[int], alternatives: int) -> list[TokenLogprob | None]:
    """Each token's log-probability (natural) after those before it, and the likeliest alternatives there; None for the first.

    It reads the prompt with a cache of its own: what the engine has read leaves no logits behind.
    """
    ids_T = torch.tensor(ids, device=model.embedding.weight.device)
    cache = model.new_cache(1, len(ids))
    found: list[TokenLogprob | None] = [None]
    for read_N, next_N in zip(ids_T[:-1].split(_CHUNK), ids_T[1:].split(_CHUNK), strict=True):
        log_NV = model.logits(model(read_N[None], cache=cache)[0]).float().log_softmax(-1)
        own_N = log_NV.gather(-1, next_N[:, None])[:, 0]
        best = log_NV.topk(min(alternatives, log_NV.shape[-1]))
        rows = zip(next_N.tolist(), own_N.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        found += [TokenLogprob(id, own, tuple(zip(top, values, strict=True))) for id, own, top, values in rows]
    return found
