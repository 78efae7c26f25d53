"""How likely a prompt's own tokens were: what `echo` with `logprobs` adds, and evaluation harnesses score choices by.

T positions, N positions at a time, D model width, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch

from cutaway.infer.request import TokenLogprob

_CHUNK = 256  # positions whose logits are held at a time


@torch.inference_mode()
def prompt_logprobs(model: Any, ids: Sequence[int], alternatives: int) -> list[TokenLogprob | None]:
    """Each token's log-probability (natural) after those before it, and the likeliest alternatives there; None for the first.

    One forward pass without the engine's cache, in which prompts leave no logits behind.
    """
    ids_T = torch.tensor(ids, device=model.embedding.weight.device)
    h_TD = model(ids_T[None])[0]
    found: list[TokenLogprob | None] = [None]
    for h_ND, ids_N in zip(h_TD[:-1].split(_CHUNK), ids_T[1:].split(_CHUNK), strict=True):
        log_NV = model.logits(h_ND).float().log_softmax(-1)
        own_N = log_NV.gather(-1, ids_N[:, None])[:, 0]
        best = log_NV.topk(min(alternatives, log_NV.shape[-1]))
        rows = zip(ids_N.tolist(), own_N.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        found += [TokenLogprob(id, own, tuple(zip(top, values, strict=True))) for id, own, top, values in rows]
    return found
