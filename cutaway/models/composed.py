"""A decoder put together from choices: one model in which a single part can be exchanged and everything else stays.

Attention (all kinds of head grouping, and latent), positions, norms and their place, activations, experts, output head, with or
without residual connections. Each choice is a module that is picked once, when the model is built. `config.json` is ours: the
fields of `ComposedConfig`.

Shapes: B batch, T positions, S key positions, D model width, H query heads, G key-value heads, K head width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from cutaway.models.composed_config import ComposedConfig
from cutaway.models.composed_positions import POSITIONS, Places
from cutaway.models.decoder import Decoder
from cutaway.nn.adaptive_softmax import AdaptiveSoftmax
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.experts import ExpertLayer
from cutaway.nn.feedforward import FeedForward, GatedFeedForward
from cutaway.nn.latent_attention import LatentAttention
from cutaway.nn.norm import RMSNorm
from cutaway.nn.rope import apply_rope

__all__ = ["MODEL_TYPES", "Composed", "ComposedConfig", "build", "config_from_hf", "config_to_hf"]

MODEL_TYPES = ("composed",)


class GroupedAttention(nn.Module):
    """Attention with one key-value head per group of query heads."""

    def __init__(self, config: ComposedConfig):
        super().__init__()
        D, self.H, self.G, self.K = config.width, config.num_attention_heads, config.kv_heads, config.head_width
        self.q_proj = nn.Linear(D, self.H * self.K, bias=False)
        self.k_proj = nn.Linear(D, self.G * self.K, bias=False)
        self.v_proj = nn.Linear(D, self.G * self.K, bias=False)
        self.o_proj = nn.Linear(self.H * self.K, D, bias=False)
        self.attend = Attend(self.K**-0.5, config.backend)

    def forward(self, x_BTD: Tensor, places: Places, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        B, T, _ = x_BTD.shape
        q_BHTK = self.q_proj(x_BTD).view(B, T, self.H, self.K).transpose(1, 2)
        k_BGSK = self.k_proj(x_BTD).view(B, T, self.G, self.K).transpose(1, 2)
        v_BGSK = self.v_proj(x_BTD).view(B, T, self.G, self.K).transpose(1, 2)
        if places.rope is not None:
            q_BHTK, k_BGSK = apply_rope(q_BHTK, *places.rope), apply_rope(k_BGSK, *places.rope)
        if cache is not None:
            k_BGSK, v_BGSK = cache.write(layer, k_BGSK, v_BGSK)
        out_BHTK = self.attend(q_BHTK, k_BGSK, v_BGSK, mask, places.bias)
        return self.o_proj(out_BHTK.transpose(1, 2).reshape(B, T, self.H * self.K))


class Latent(LatentAttention):
    """Latent attention with this model's shape."""

    def __init__(self, config: ComposedConfig):
        H, K = config.num_attention_heads, config.head_width
        super().__init__(config.width, H, K, config.latent_size, config.rotary_width, config.backend)

    def forward(  # type: ignore[override]
        self, x_BTD: Tensor, places: Places, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        return super().forward(x_BTD, places.rope, places.bias, mask, cache, layer)


def dense(config: ComposedConfig) -> nn.Module:
    """One feed-forward network."""
    gated = {"swiglu": "silu", "geglu": "gelu"}.get(config.activation)
    if gated is not None:
        return GatedFeedForward(config.width, config.intermediate_size, gated)
    return FeedForward(config.width, config.intermediate_size, config.activation)


class Experts(ExpertLayer):
    """Routed feed-forward networks, their weights summing to one, and the shared one."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config, config.num_experts)
        self.k = config.num_experts_per_tok
        self.gate = nn.Linear(config.width, config.num_experts, bias=False)
        self.experts = nn.ModuleList(dense(config) for _ in range(config.num_experts))
        self.shared_expert = dense(config) if config.shared_expert else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD = self.routed(x_BTD.flatten(0, -2), normalise=True).view_as(x_BTD)
        return y_BTD if self.shared_expert is None else y_BTD + self.shared_expert(x_BTD)


def make_norm(config: ComposedConfig) -> nn.Module:
    """A norm of the chosen kind."""
    if config.norm == "none":
        return nn.Identity()
    return RMSNorm(config.width, 1e-6) if config.norm == "rms" else nn.LayerNorm(config.width)


class Block(nn.Module):
    def __init__(self, config: ComposedConfig, layer: int):
        super().__init__()
        self.layer, self.pre, self.residual = layer, config.norm_place == "pre", config.residual
        self.attention_norm = make_norm(config)
        self.attention = GroupedAttention(config) if config.attention == "grouped" else Latent(config)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = Experts(config) if config.num_experts else dense(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, places: Places, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        read = self.attention_norm(x_BTD) if self.pre else x_BTD
        x_BTD = self._joined(x_BTD, self.attention(read, places, mask, cache, self.layer), self.attention_norm)
        read = self.feed_forward_norm(x_BTD) if self.pre else x_BTD
        return self._joined(x_BTD, self.feed_forward(read), self.feed_forward_norm)

    def _joined(self, x_BTD: Tensor, found_BTD: Tensor, norm: nn.Module) -> Tensor:
        found_BTD = self.dropout(found_BTD)
        joined = x_BTD + found_BTD if self.residual else found_BTD
        return joined if self.pre else norm(joined)


class Composed(Decoder):
    """The decoder of a `ComposedConfig`, with random weights."""

    EMBEDDING, BLOCKS, FINAL_NORM = "embed_tokens", "layers", "norm"

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = POSITIONS[config.positions](config)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.finish()

    def make_head(self) -> nn.Module:
        """The output head, D to V."""
        if self.config.head == "adaptive":
            return AdaptiveSoftmax(self.config.width, self.config.vocab_size, self.config.adaptive)
        return super().make_head()

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache, for `batch` rows of up to `capacity` positions; of latents, where attention is latent."""
        c, weight = self.config, self.embedding.weight
        shape = (len(self.blocks), batch, c.kv_heads, c.kv_width, capacity)
        return KVCache(*shape, weight.dtype, weight.device, c.value_width)

    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The residual stream after the last block."""
        x_BTD = self.dropout(self.positions.add(self.embedding(ids_BT), positions_BT))
        if cache is None:
            keys_B1S = positions_BT[:, None]
        else:
            keys_B1S = torch.arange(cache.longest + ids_BT.shape[1], device=ids_BT.device)[None, None]
        places = self.positions.places(positions_BT, keys_B1S, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, places, mask, cache)
        return x_BTD


def config_from_hf(values: dict[str, Any]) -> ComposedConfig:
    """Read the `config.json` that we wrote."""
    known = {name: value for name, value in values.items() if name in ComposedConfig.model_fields}
    return ComposedConfig.model_validate(known)


def config_to_hf(config: ComposedConfig) -> dict[str, Any]:
    """Our own `config.json`; no other library reads it."""
    return {"architectures": ["Composed"], **config.model_dump(mode="json")}


def build(config: ComposedConfig) -> Composed:
    """A fresh model."""
    return Composed(config)
