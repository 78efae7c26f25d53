"""The shape of a Llama-family model, and how `config.json` spells it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.nn.rope import RopeScaling


class LlamaConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["llama", "mistral", "qwen2", "qwen3"] = "llama"
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
    attention_sinks: int = Field(0, ge=0, description="the first positions, which it sees besides the window")
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

    @property
    def qk_norm(self) -> bool:
        """Whether there is an RMSNorm on every query and key head; config.json does not say, the family does."""
        return self.model_type in ("qwen3", "qwen3_moe")

    @property
    def width(self) -> int:
        """D."""
        return self.hidden_size

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_position_embeddings

    @property
    def kv_heads(self) -> int:
        """G."""
        return self.num_key_value_heads

    @property
    def kv_width(self) -> int:
        """K."""
        return self.head_dim


ARCHITECTURES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "mixtral": "Mixtral",
    "qwen2_moe": "Qwen2Moe",
    "qwen3_moe": "Qwen3Moe",
}
_WINDOWED = ("mistral", "mixtral")  # their window holds without `use_sliding_window`
_OURS = {"attention", "rope_scaling", "attention_output_bias"}  # not in config.json, or spelt otherwise there


def config_from_hf(values: dict[str, Any]) -> LlamaConfig:
    """Read the `config.json` of a Hugging Face folder."""
    return LlamaConfig.model_validate(shape_from_hf(values))


def config_to_hf(config: LlamaConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return shape_to_hf(config)


def shape_from_hf(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of `LlamaConfig` in a `config.json`, for this family and those built on it.

    `rope_parameters` (newer) and `rope_scaling` with `rope_theta` (older) both load. Qwen2 has biases on q, k, v always.
    """
    kind = values["model_type"]
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    theta = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    scaling = {name: rope[name] for name in RopeScaling.model_fields if rope.get(name) is not None}
    if "type" in rope and "rope_type" not in rope:
        scaling["rope_type"] = rope["type"]
    of_qkv_only = kind in ("qwen2", "qwen2_moe")
    bias = values.get("qkv_bias", True) if of_qkv_only else bool(values.get("attention_bias", False))
    windowed = values.get("use_sliding_window", kind in _WINDOWED)
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
    return {
        **{name: values[name] for name in same},
        "model_type": kind,
        "num_key_value_heads": values.get("num_key_value_heads") or values["num_attention_heads"],
        "head_dim": values.get("head_dim") or (128 if kind in ("qwen3", "qwen3_moe") else 0),
        "max_position_embeddings": values.get("max_position_embeddings", 2048),
        "rms_norm_eps": values.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "attention_bias": bias,
        "attention_output_bias": bias and not of_qkv_only,
        "mlp_bias": bool(values.get("mlp_bias", False)),
        "sliding_window": values.get("sliding_window") or None if windowed else None,
        "attention_sinks": values.get("attention_sinks", 0) if windowed else 0,
        "tie_word_embeddings": values.get("tie_word_embeddings", False),
        "initializer_range": values.get("initializer_range", 0.02),
    }


def shape_to_hf(config: LlamaConfig) -> dict[str, Any]:
    """The other way round."""
    values = config.model_dump(exclude=_OURS, exclude_none=True)
    scaling = config.rope_scaling.to_hf()
    if config.rope_scaling.rope_type != "default":
        values["rope_scaling"] = scaling
    values["rope_parameters"] = {**scaling, "rope_theta": config.rope_theta}
    if config.model_type.startswith("qwen"):
        values |= {"qkv_bias": config.attention_bias}
    if config.sliding_window and config.model_type not in _WINDOWED:
        values |= {"use_sliding_window": True, "max_window_layers": 0}
    if not config.attention_sinks:
        del values["attention_sinks"]
    architecture = ARCHITECTURES[config.model_type]
    return {"architectures": [f"{architecture}ForCausalLM"], **values, "hidden_act": "silu"}
