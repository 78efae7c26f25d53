"""A decoder put together from choices: one model in which a single part can be exchanged and everything else stays.

Attention (all kinds of head grouping, and latent), positions, norms and their place, activations, experts, output head, with or
without residual connections. Each choice is a module that is picked once, when the model is built. `config.json` is ours: the
fields of `ComposedConfig`.

Shapes: B batch, T positions, S key positions, D model width, H query heads, G key-value heads, K head width.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.models.decoder import Decoder
from cutaway.nn.activation import ACTIVATIONS
from cutaway.nn.adaptive_softmax import AdaptiveSoftmax, AdaptiveSoftmaxConfig
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.experts import ExpertLayer, RoutingConfig
from cutaway.nn.latent_attention import LatentAttention
from cutaway.nn.norm import RMSNorm
from cutaway.nn.positions import RelativeBias, alibi_bias, alibi_slopes, sinusoidal
from cutaway.nn.rope import RopeScaling, apply_rope, rope_frequencies, rope_tables

MODEL_TYPES = ("composed",)


class ComposedConfig(RoutingConfig):
    """The choices. The defaults are those of a small Llama."""

    model_type: Literal["composed"] = "composed"
    vocab_size: int = Field(8192, gt=0)
    hidden_size: int = Field(256, gt=0)
    num_hidden_layers: int = Field(4, gt=0)
    max_position_embeddings: int = Field(1024, gt=0, description="context, in tokens")

    attention: Literal["grouped", "latent"] = "grouped"
    num_attention_heads: int = Field(4, gt=0)
    num_key_value_heads: int = Field(4, gt=0, description="grouped: as many as queries (MHA), fewer (GQA), 1 (MQA)")
    latent_size: int = Field(64, gt=0, description="latent: width of what is cached per token")
    rotary_size: int = Field(
        16, gt=0, multiple_of=2, description="latent, with rope: width of the key that all heads share"
    )

    positions: Literal["rope", "sinusoidal", "learned", "alibi", "relative", "none"] = "rope"
    norm: Literal["rms", "layer", "none"] = "rms"
    norm_place: Literal["pre", "post"] = Field("pre", description="before each sub-layer, or after adding it")
    residual: bool = Field(True, description="false: a sub-layer replaces its input")

    intermediate_size: int = Field(688, gt=0)
    activation: Literal["relu", "gelu", "silu", "relu2", "swiglu", "geglu"] = "swiglu"
    num_experts: int = Field(0, ge=0, description="0: a dense feed-forward layer")
    num_experts_per_tok: int = Field(2, gt=0)
    shared_expert: bool = Field(False, description="one more expert, which every token passes")

    head: Literal["tied", "full", "adaptive"] = "tied"
    adaptive: AdaptiveSoftmaxConfig = AdaptiveSoftmaxConfig(cutoffs=(2000,))
    initializer_range: float = Field(0.02, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="on embeddings and sub-layers, in training")
    backend: str = Field("sdpa", description="attention backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "ComposedConfig":
        D, H, G = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        if D % H:
            raise ValueError(f"hidden_size {D} is not a multiple of num_attention_heads {H}")
        if self.attention == "grouped" and H % G:
            raise ValueError(f"num_attention_heads {H} is not a multiple of num_key_value_heads {G}")
        if self.positions == "rope" and self.attention == "grouped" and (D // H) % 2:
            raise ValueError(f"a head is {D // H} wide and must be even for rotary positions")
        if self.num_experts and self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is more than num_experts {self.num_experts}"
            )
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.hidden_size

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_position_embeddings

    @property
    def head_width(self) -> int:
        """K."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_width(self) -> int:
        """How wide the part is that rotary positions turn; 0 without them."""
        if self.positions != "rope":
            return 0
        return self.head_width if self.attention == "grouped" else self.rotary_size

    @property
    def kv_heads(self) -> int:
        """Heads in the cache; of latents there is one."""
        return self.num_key_value_heads if self.attention == "grouped" else 1

    @property
    def kv_width(self) -> int:
        """Width of a cached key, or of a latent."""
        return self.head_width if self.attention == "grouped" else self.latent_size

    @property
    def value_width(self) -> int:
        """Width of a cached value; beside a latent lies the key that rotary positions turned."""
        return self.head_width if self.attention == "grouped" else self.rotary_width

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the head is the embedding."""
        return self.head == "tied"


@dataclass(frozen=True)
class Places:
    """What the positions give to an attention layer: angles for queries and keys, or a bias for the scores."""

    rope: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None


class NoPositions(nn.Module):
    """Base of the position schemes, and the one that says nothing: order is then known from the causal mask alone."""

    def __init__(self, config: ComposedConfig):
        super().__init__()

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        """What enters the first layer."""
        return x_BTD

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        """What every attention layer is given."""
        return Places()


class Sinusoidal(NoPositions):
    """Added waves."""

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD + sinusoidal(positions_BT, x_BTD.shape[-1]).to(x_BTD.dtype)


class Learned(NoPositions):
    """An added table."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.table = nn.Embedding(config.context, config.width)

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD + self.table(positions_BT)


class Rotary(NoPositions):
    """Turned queries and keys."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.width = config.rotary_width

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        frequencies, factor = rope_frequencies(self.width, 10_000.0, RopeScaling(), 0)
        return Places(rope=rope_tables(queries_BT, frequencies.to(queries_BT.device), factor, dtype))


class Alibi(NoPositions):
    """Scores that fall with the distance."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.H = config.num_attention_heads

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        return Places(bias=alibi_bias(alibi_slopes(self.H).to(queries_BT.device), queries_BT, keys_B1S))


class Relative(NoPositions):
    """A learned number per distance and head, shared by the layers (T5)."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.relative_bias = RelativeBias(32, 128, False, config.num_attention_heads)

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        return Places(bias=self.relative_bias(queries_BT, keys_B1S))


POSITIONS: dict[str, type[NoPositions]] = {
    "none": NoPositions,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
    "rope": Rotary,
    "alibi": Alibi,
    "relative": Relative,
}


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


class Plain(nn.Module):
    """down(f(up(x)))."""

    def __init__(self, config: ComposedConfig):
        super().__init__()
        self.f = ACTIVATIONS[config.activation]
        self.up_proj = nn.Linear(config.width, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.f(self.up_proj(x)))


class Gated(nn.Module):
    """down(f(gate(x)) · up(x)), Shazeer 2020."""

    def __init__(self, config: ComposedConfig):
        super().__init__()
        self.f = ACTIVATIONS[{"swiglu": "silu", "geglu": "gelu"}[config.activation]]
        self.gate_proj = nn.Linear(config.width, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.width, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.f(self.gate_proj(x)) * self.up_proj(x))


def dense(config: ComposedConfig) -> nn.Module:
    """One feed-forward network."""
    return Gated(config) if config.activation in ("swiglu", "geglu") else Plain(config)


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
