"""Log-probabilities of tokens, and of the likeliest in their places. N positions, V vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.infer.request import TokenLogprob


def token_logprobs(logits_NV: Tensor, ids: Sequence[int], alternatives: int) -> list[TokenLogprob]:
    """Of `ids`, one per position, by the model's own distribution there."""
    log_NV = logits_NV.log_softmax(-1)
    own_N = log_NV.gather(-1, torch.tensor(ids, device=log_NV.device)[:, None])[:, 0]
    best = log_NV.topk(min(alternatives, log_NV.shape[-1]))
    rows = zip(ids, own_N.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
    return [TokenLogprob(id, own, tuple(zip(top, values, strict=True))) for id, own, top, values in rows]
