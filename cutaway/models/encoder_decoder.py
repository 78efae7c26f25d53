"""What every encoder-decoder family gives its callers besides a `LanguageModel`: a memory of the source, hidden states of the
target, a cache.

A family computes `encoded` and `hidden`; the rest is the same for all.

Shapes: B batch, S source positions, T target positions, D model width, H heads, K head width, V vocabulary.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cutaway.models.language_model import LanguageModel
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import Memory, MemoryKeys


class MemoryCache:
    """What a decoder that reads a memory keeps from step to step.

    Args:
        own: keys and values of the target so far; its `lengths` say how far each row is.

    `memory` has those of the source, which each layer computes at the first step and no later step changes.
    """

    def __init__(self, own: KVCache):
        self.own = own
        self.memory: MemoryKeys = {}

    def select(self, rows: list[int]) -> None:
        """Row i becomes a copy of row `rows[i]`, source and target."""
        self.own.select(rows)
        self.memory = {layer: (k_BHSK[rows], v_BHSK[rows]) for layer, (k_BHSK, v_BHSK) in self.memory.items()}


class EncoderDecoder(LanguageModel, ABC):
    """A model that reads a source and writes a target. Its configuration also has `decoder_start_token_id`.

    A family adds its modules under the checkpoint's names, calls `finish`, and draws its weights.
    """

    SOURCE: ClassVar[Literal["text", "image", "audio"]] = "text"  # what `encode` reads
    ENCODER_BLOCKS: ClassVar[str]

    def finish(self) -> None:
        """Add the output head, and share what is shared."""
        self.lm_head = self.make_head()
        self.tie()

    @property
    def source_embedding(self) -> nn.Embedding:
        """The embedding of the source's tokens; the target's, unless a family has two."""
        return self.embedding

    @property
    def encoder_blocks(self) -> nn.ModuleList:
        """The encoder's layers, in order."""
        return self.get_submodule(self.ENCODER_BLOCKS)  # type: ignore[return-value]

    def new_cache(self, batch: int, capacity: int) -> MemoryCache:
        """An empty cache in the model's number format, for `batch` rows of up to `capacity` target positions."""
        return MemoryCache(self.key_value_cache(batch, capacity))

    def source_positions(self, source: Tensor) -> int:
        """S: how many positions the memory of a source has; one per token, unless a family says otherwise."""
        return source.shape[1]

    def encode(self, source: Tensor, *, mask_BS: Tensor | None = None) -> Tensor:
        """The memory that the decoder reads, B × S × D.

        Args:
            source: token ids, B × S, with any padding on the right; or what else the family reads.
            mask_BS: true where a position is real; by default all are. What stands at padding is of no meaning.
        """
        return self.encoded(source, _keys_mask(len(source), self.source_positions(source), mask_BS, source.device))

    def forward(
        self,
        target_BT: Tensor,
        memory_BSD: Tensor,
        *,
        memory_mask_BS: Tensor | None = None,
        cache: MemoryCache | None = None,
    ) -> Tensor:
        """Final hidden states of the target, B × T × D, after the last norm.

        Args:
            target_BT: token ids, beginning with the start token; padding on the right changes nothing before it.
            memory_BSD: what `encode` gave for the same rows.
            memory_mask_BS: true where the source is real; by default everywhere.
            cache: what the steps before have kept; `target_BT` is added. The memory is read at the first step only.
        """
        T = target_BT.shape[1]
        own, known = (cache.own, cache.memory) if cache is not None else (None, None)
        positions_BT = own.positions(T) if own is not None else torch.arange(T, device=target_BT.device)[None]
        mask = own.mask(T) if own is not None else None
        B, S, _ = memory_BSD.shape
        mask_B11S = _keys_mask(B, S, memory_mask_BS, memory_BSD.device)
        memory = Memory(memory_BSD, mask_B11S, known)
        x_BTD = self.hidden(target_BT, positions_BT, mask, memory, own)
        if own is not None:
            own.advance(T)
        return self.final_norm(x_BTD)

    @abstractmethod
    def encoded(self, source: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm; what a family defines."""

    @abstractmethod
    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block; what a family defines. `mask` is None (causal) or has a head
        axis."""


def _keys_mask(B: int, S: int, mask_BS: Tensor | None, device: torch.device) -> Tensor:
    """B × 1 × 1 × S: which keys every query sees; all, where no mask is given."""
    if mask_BS is None:
        mask_BS = torch.ones(B, S, dtype=torch.bool, device=device)
    return mask_BS[:, None, None]
