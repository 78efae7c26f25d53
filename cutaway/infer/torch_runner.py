"""The runner for every decoder: ordinary modules on a paged cache.

B rows, T tokens, D model width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cutaway.infer.blocks import BLOCK_SIZE, blocks_for
from cutaway.infer.runner import Work
from cutaway.nn.paged_cache import PagedCache


def block_bytes(model: Any) -> int:
    """Memory of one block of a model's cache."""
    return model.new_cache(1, BLOCK_SIZE).nbytes


class TorchRunner:
    """A decoder (`docs/architecture.md`, Models) with a cache.

    Sequences with as many tokens in a step are one batch, if they have the same adapter.

    Args:
        adapted: variants of the model by the names of their adapters, on the same weights.
    """

    def __init__(self, model: Any, n_blocks: int, adapted: Mapping[str, Any] | None = None):
        self.model, self.n_blocks, self._models = model, n_blocks, {"": model, **(adapted or {})}
        self.device = model.embedding.weight.device
        self._cache = PagedCache(model.new_cache(1, n_blocks * BLOCK_SIZE), BLOCK_SIZE)
        self._lost: set[int] = set()  # blocks of which something was not a number

    @torch.inference_mode()
    def run(self, work: Sequence[Work]) -> Tensor:
        """As `Runner.run`."""
        batches: dict[tuple[int, int, str], list[int]] = {}
        for number, one in enumerate(work):
            alone = number if self._reads_inputs(one) else -1
            batches.setdefault((len(one.ids), alone, one.adapter), []).append(number)
        wanted: dict[int, Tensor] = {}
        for numbers in batches.values():
            numbers.sort(key=lambda number: work[number].table[0])  # rows side by side need no gathering
            hidden_BTD = self._forward([work[number] for number in numbers])
            for number, h_TD in zip(numbers, hidden_BTD, strict=True):
                wanted[number] = h_TD[list(work[number].wanted)]
        h_ND = torch.cat([wanted[number] for number in range(len(work))])
        return self._logits([one.adapter for one in work for _ in one.wanted], h_ND)

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        """As `Runner.copy`."""
        self._cache.copy(source, target)
        (self._lost.add if source in self._lost else self._lost.discard)(target)

    def _logits(self, adapters: Sequence[str], h_ND: Tensor) -> Tensor:
        """Logits of rows, each by its adapter's model: an adapter may change the head too."""
        if len(set(adapters)) < 2:
            return self._models[adapters[0]].logits(h_ND).float() if adapters else h_ND.float()
        order = sorted(range(len(adapters)), key=lambda row: adapters[row])
        groups = [list(group) for _, group in groupby(order, key=lambda row: adapters[row])]
        logits_NV = torch.cat([self._models[adapters[rows[0]]].logits(h_ND[rows]).float() for rows in groups])
        return logits_NV[torch.tensor(order, device=h_ND.device).argsort()]

    def _forward(self, batch: Sequence[Work]) -> Tensor:
        T = len(batch[0].ids)
        ids_BT = torch.tensor([list(one.ids) for one in batch], device=self.device)
        rows = self._cache.rows([one.table for one in batch], [one.start for one in batch], T)
        inputs = batch[0].inputs if self._reads_inputs(batch[0]) else {}
        start = batch[0].start
        more = {name: value[None, start : start + T].to(self.device) for name, value in inputs.items()}
        h_BTD = self._models[batch[0].adapter](ids_BT, cache=rows, **more)
        self._lost.difference_update(*(one.table[blocks_for(one.start) : blocks_for(one.start + T)] for one in batch))
        if self._lost or not h_BTD.isfinite().all():
            for one, h_TD in zip(batch, h_BTD, strict=True):
                self._contain(one, h_TD)
        return h_BTD

    def _contain(self, one: Work, h_TD: Tensor) -> None:
        """Let only numbers stay in the cache: masked positions are multiplied by 0, not left out. Remember where others were."""
        stop = one.start + len(one.ids)
        table = one.table[: blocks_for(stop)]
        if self._lost.isdisjoint(table) and bool(h_TD.isfinite().all()):
            return
        self._cache.clear(table, one.start, stop)
        self._lost.update(table[one.start // BLOCK_SIZE :])
        h_TD.fill_(torch.nan)

    def _reads_inputs(self, one: Work) -> bool:
        return any(one.start < len(value) for value in one.inputs.values())
