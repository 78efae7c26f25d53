"""The only part of the engine that touches the model. N running rows, V vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Runner:
    """A model with a cache of `rows` rows.

    Args:
        model: a decoder (`docs/architecture.md`, Models).
        capacity: positions per row.
        chunk: prompt tokens per forward pass; it bounds the memory of a long prompt.
    """

    def __init__(self, model: Any, rows: int, capacity: int, chunk: int):
        self.model, self.chunk = model, chunk
        self.cache = model.new_cache(rows, capacity)
        self.device = model.embedding.weight.device

    @torch.inference_mode()
    def prefill(self, row: int, ids: Sequence[int], inputs: Mapping[str, Tensor]) -> Tensor:
        """Put a prompt into a row that is free; the logits (float32, V) of what follows it.

        Args:
            inputs: see `Request`.
        """
        cache = self.cache.rows(row, row + 1)
        cache.lengths.zero_()
        for start in range(0, len(ids), self.chunk):
            stop = start + self.chunk
            part = torch.tensor([ids[start:stop]], device=self.device)
            more = {name: value[None, start:stop].to(self.device) for name, value in inputs.items()}
            h_1TD = self.model(part, cache=cache, **more)
        return self.model.logits(h_1TD[0, -1]).float()

    @torch.inference_mode()
    def decode(self, last_ids: Sequence[int]) -> Tensor:
        """Add the last token of rows 0 … N-1; the logits (float32, N × V) of what follows each."""
        cache = self.cache.rows(0, len(last_ids))
        h_N1D = self.model(torch.tensor(last_ids, device=self.device)[:, None], cache=cache)
        return self.model.logits(h_N1D[:, -1]).float()

    def move(self, source: int, target: int) -> None:
        """One row takes another's place."""
        self.cache.move(source, target)
