"""The Llama family: Llama 1–3, Mistral, Qwen2, SmolLM and whatever else has their shape.

Pre-norm decoder with RMSNorm, rotary positions, grouped key-value heads and SwiGLU (Touvron et al. 2023). Modules are named like
the Hugging Face checkpoint's tensors, so a state dict needs no mapping.

Shapes: B batch, T positions, S key positions, D model width, H query heads, G key-value heads, K head width, V vocabulary.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.feedforward import SwiGLU
from cutaway.nn.masks import causal_mask, sliding_window
from cutaway.nn.norm import RMSNorm
from cutaway.nn.rope import RopeScaling, apply_rope, rope_frequencies, rope_tables

MODEL_TYPES = ("llama", "mistral", "qwen2")


class LlamaConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["llama", "mistral", "qwen2"] = "llama"
    vocab_size: int = Field(8192, gt=0)
    hidden_size: int = Field(256, gt=0)
    intermediate_size: int = Field(768, gt=0)
    num_hidden_layers: int = Field(8, gt=0)
    num_attention_heads: int = Field(8, gt=0)
    num_key_value_heads: int = Field(4, gt=0)
    head_dim: int = Field(0, ge=0, description="0: hidden_size / num_attention_heads")
    max_position_embeddings: int = Field(1024, gt=0, description="context, in tokens")
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling = RopeScaling()
    attention_bias: bool = Field(False, description="bias of q, k and v")
    attention_output_bias: bool = Field(False, description="bias of o")
    mlp_bias: bool = False
    sliding_window: int | None = Field(None, gt=0, description="positions a query sees; None: all before it")
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="before")
    @classmethod
    def _head_dim(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("head_dim"):
            width = values.get("hidden_size", cls.model_fields["hidden_size"].default)
            heads = values.get("num_attention_heads", cls.model_fields["num_attention_heads"].default)
            if isinstance(width, int) and isinstance(heads, int) and heads > 0:
                if width % heads:
                    raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
                return {**values, "head_dim": width // heads}
        return values

    @model_validator(mode="after")
    def _whole_groups(self) -> "LlamaConfig":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for rotary positions")
        return self


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig):
        super().__init__()
        D, K = config.hidden_size, config.head_dim
        self.H, self.G, self.K = config.num_attention_heads, config.num_key_value_heads, K
        self.q_proj = nn.Linear(D, self.H * K, bias=config.attention_bias)
        self.k_proj = nn.Linear(D, self.G * K, bias=config.attention_bias)
        self.v_proj = nn.Linear(D, self.G * K, bias=config.attention_bias)
        self.o_proj = nn.Linear(self.H * K, D, bias=config.attention_output_bias)
        self.attend = Attend(K**-0.5, config.attention)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        B, T, _ = x_BTD.shape
        q_BHTK = apply_rope(self.q_proj(x_BTD).view(B, T, self.H, self.K).transpose(1, 2), *rope)
        k_BGSK = apply_rope(self.k_proj(x_BTD).view(B, T, self.G, self.K).transpose(1, 2), *rope)
        v_BGSK = self.v_proj(x_BTD).view(B, T, self.G, self.K).transpose(1, 2)
        if cache is not None:
            k_BGSK, v_BGSK = cache.write(layer, k_BGSK, v_BGSK)
        out_BHTK = self.attend(q_BHTK, k_BGSK, v_BGSK, mask)
        return self.o_proj(out_BHTK.transpose(1, 2).reshape(B, T, self.H * self.K))


class Block(nn.Module):
    def __init__(self, config: LlamaConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size, config.mlp_bias)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None = None
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, mask, cache, self.layer)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Trunk(nn.Module):
    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    """A Llama-style decoder with random weights; `models.load` fills it from a checkpoint."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie()
        self.apply(self._initialise)

    def tie(self) -> None:
        """Share the embedding with the output head, where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.model.layers

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.model.embed_tokens

    @property
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the output head."""
        return self.model.norm

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.config.max_position_embeddings

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache in the model's number format, for `batch` rows of up to `capacity` positions."""
        weight = self.model.embed_tokens.weight
        c = self.config
        return KVCache(
            c.num_hidden_layers, batch, c.num_key_value_heads, c.head_dim, capacity, weight.dtype, weight.device
        )

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
        x_BTD = self.model.embed_tokens(ids_BT)
        if positions_BT is None:
            positions_BT = cache.positions(T) if cache is not None else torch.arange(T, device=ids_BT.device)[None]
        rope = self._rope(positions_BT, x_BTD.dtype)
        mask = self._mask(mask_BTS, T, cache, ids_BT.device)
        for block in self.model.layers:
            x_BTD = block(x_BTD, rope, mask, cache)
        if cache is not None:
            cache.advance(T)
        return self.model.norm(x_BTD)

    def logits(self, h: Tensor) -> Tensor:
        """The output head: … × D to … × V."""
        return self.lm_head(h)

    def _rope(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        c = self.config
        length = int(positions_BT.max()) + 1 if c.rope_scaling.rope_type == "dynamic" else 0
        frequencies, factor = rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling, self.context, length)
        return rope_tables(positions_BT, frequencies.to(positions_BT.device), factor, dtype)

    def _mask(self, mask: Tensor | None, T: int, cache: KVCache | None, device: torch.device) -> Tensor | None:
        if mask is None and cache is not None:
            mask = cache.mask(T)
        if mask is not None and mask.dim() == 3:
            mask = mask[:, None]
        window = self.config.sliding_window
        S = T + (cache.longest if cache is not None else 0)
        if window is None or window >= S:
            return mask
        if cache is not None and mask is not None:  # rows of different lengths: distances are by position
            keys = torch.arange(S, device=device)
            near = cache.positions(T)[:, :, None] - keys < window
            return mask & near[:, None]
        return sliding_window(causal_mask(T, S, device) if mask is None else mask, window)


def config_from_hf(values: dict[str, Any]) -> LlamaConfig:
    """Read the `config.json` of a Hugging Face folder.

    `rope_parameters` (newer) and `rope_scaling` with `rope_theta` (older) both load. Qwen2 has biases on q, k, v always.
    """
    kind = values["model_type"]
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    theta = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    scaling = {name: rope[name] for name in RopeScaling.model_fields if rope.get(name) is not None}
    if "type" in rope and "rope_type" not in rope:
        scaling["rope_type"] = rope["type"]
    bias = kind == "qwen2" or bool(values.get("attention_bias", False))
    windowed = values.get("use_sliding_window", kind == "mistral")
    if values.get("hidden_act", "silu") != "silu":
        raise CheckpointError("only silu is supported", field="hidden_act", value=values["hidden_act"])
    if windowed and values.get("sliding_window") and values.get("max_window_layers", 0):
        raise CheckpointError(
            "a window in some layers only is not supported",
            field="max_window_layers",
            value=values["max_window_layers"],
            hint="0: a window in every layer",
        )
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return LlamaConfig.model_validate(
        {
            **{name: values[name] for name in same},
            "model_type": kind,
            "num_key_value_heads": values.get("num_key_value_heads") or values["num_attention_heads"],
            "head_dim": values.get("head_dim") or 0,
            "max_position_embeddings": values.get("max_position_embeddings", 2048),
            "rms_norm_eps": values.get("rms_norm_eps", 1e-6),
            "rope_theta": theta,
            "rope_scaling": scaling,
            "attention_bias": bias,
            "attention_output_bias": bias and kind == "llama",
            "mlp_bias": bool(values.get("mlp_bias", False)),
            "sliding_window": values.get("sliding_window") if windowed else None,
            "tie_word_embeddings": values.get("tie_word_embeddings", False),
            "initializer_range": values.get("initializer_range", 0.02),
        }
    )


def config_to_hf(config: LlamaConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    values = config.model_dump(exclude={"attention", "rope_scaling", "attention_output_bias"}, exclude_none=True)
    architecture = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[config.model_type]
    scaling = config.rope_scaling.to_hf()
    window = {"use_sliding_window": True, "max_window_layers": 0}
    if config.rope_scaling.rope_type != "default":
        values["rope_scaling"] = scaling
    values["rope_parameters"] = {**scaling, "rope_theta": config.rope_theta}
    return {
        "architectures": [f"{architecture}ForCausalLM"],
        **values,
        "hidden_act": "silu",
        **(window if config.sliding_window and config.model_type == "qwen2" else {}),
    }


def build(config: LlamaConfig) -> Llama:
    """A fresh model."""
    return Llama(config)
