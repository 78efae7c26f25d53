"""Beam search on a decoder. B prompts, W beams, D model width, V vocabulary."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.decode.beam import Beam, Hypothesis, beam_search


@torch.inference_mode()
def beam_decode(
    model: Any, prompts: Sequence[Sequence[int]], beam: Beam, end_ids: Collection[int], max_tokens: int
) -> list[list[Hypothesis]]:
    """All prompts in one batch, on a cache of its own: each prompt's beams are rows of it."""
    W, device = beam.width, model.embedding.weight.device
    cache = model.new_cache(len(prompts) * W, max(map(len, prompts)) + max_tokens)
    first = []
    for b, prompt in enumerate(prompts):
        row = cache.rows(b * W, b * W + 1)
        first.append(model.logits(model(torch.tensor([list(prompt)], device=device), cache=row)[0, -1]))
        for w in range(1, W):
            cache.move(b * W, b * W + w)

    def step(tokens: Tensor, rows: Tensor) -> Tensor:
        cache.select(rows.tolist())
        h = model(tokens.to(device)[:, None], cache=cache)
        return model.logits(h[:, -1]).float().log_softmax(-1)

    return beam_search(torch.stack(first).float().log_softmax(-1), step, beam, end_ids, max_tokens)
