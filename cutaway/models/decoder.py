"""What every decoder family gives its callers besides a `LanguageModel`: hidden states, and a cache.

A family computes `hidden`; the rest is the same for all.

Shapes: B batch, T positions, S key positions, D model width, H query heads, G key-value heads, K head width, V vocabulary.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.errors import ConfigError
from cutaway.models.language_model import LanguageModel
from cutaway.nn.cache import KVCache
from cutaway.nn.masks import causal_mask, sliding_window


class Decoder(LanguageModel, ABC):
    """A causal language model. Its configuration also has `initializer_range`.

    A family adds its modules under the checkpoint's names and then calls `finish`.
    """

    window: int | None = None  # positions a query sees, itself included; None: all before it
    sinks: int = 0  # the first positions, which it sees besides the window

    def finish(self) -> None:
        """Add the output head, share what is shared, and draw the weights."""
        self.lm_head = self.make_head()
        self.tie()
        initialise(self, self.config.initializer_range)

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache in the model's number format, for `batch` rows of up to `capacity` positions."""
        return self.key_value_cache(batch, capacity)

    def forward(
        self,
        ids_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        mask_BTS: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Final hidden states, B × T × D, after the last norm.

        Args:
            ids_BT: token ids.
            positions_BT: where each token stands; by default counted from 0, or from what the cache holds.
            mask_BTS: true where a query may attend (broadcasts to B × H × T × S with a head axis, or B × T × S); causal by
                default.
            cache: keys and values of the tokens before; those of `ids_BT` are added.
        """
        T = ids_BT.shape[1]
        if positions_BT is None:
            positions_BT = cache.positions(T) if cache is not None else torch.arange(T, device=ids_BT.device)[None]
        x_BTD = self.hidden(ids_BT, positions_BT, self._mask(mask_BTS, T, cache, ids_BT.device), cache)
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x_BTD)

    @abstractmethod
    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The residual stream after the last block; what a family defines. `mask` is None (causal) or has a head axis."""

    def _mask(self, mask: Tensor | None, T: int, cache: KVCache | None, device: torch.device) -> Tensor | None:
        if mask is None and cache is not None:
            mask = cache.mask(T)
        if mask is not None and mask.dim() == 3:
            mask = mask[:, None]
        S = T + (cache.longest if cache is not None else 0)
        if self.window is None or self.window >= S:
            return mask
        if cache is not None and mask is not None:  # rows of different lengths: distances are by position
            keys = torch.arange(S, device=device)
            near = (cache.positions(T)[:, :, None] - keys < self.window) | (keys < self.sinks)
            return mask & near[:, None]
        return sliding_window(causal_mask(T, S, device) if mask is None else mask, self.window, self.sinks)


def check_decoder(model: nn.Module) -> None:
    """Refuse a model that does not go on with a text.

    Raises:
        ConfigError: it is no decoder.
    """
    if not isinstance(model, Decoder):
        kind: Any = getattr(model, "config", None)
        raise ConfigError("cannot continue a text: it is no decoder", field="model", value=kind and kind.model_type)


def initialise(model: nn.Module, std: float) -> None:
    """Draw the weights of linear layers and embeddings from N(0, std²); biases are zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
