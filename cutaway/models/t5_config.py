"""The shape of a T5, and how `config.json` spells it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.models.token_ids import check_token_ids

_FEED_FORWARDS = ("relu", "gated-gelu")


class T5Config(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["t5"] = "t5"
    vocab_size: int = Field(32128, gt=0)
    d_model: int = Field(512, gt=0)
    d_kv: int = Field(64, gt=0, description="head width; num_heads · d_kv need not be d_model")
    d_ff: int = Field(2048, gt=0)
    num_layers: int = Field(6, gt=0, description="of the encoder")
    num_decoder_layers: int | None = Field(None, gt=0, description="None: as many as the encoder has")
    num_heads: int = Field(8, gt=0)
    n_positions: int = Field(
        512, gt=0, description="context, in tokens; positions are relative, so a longer one runs too"
    )
    relative_attention_num_buckets: int = Field(32, ge=4)
    relative_attention_max_distance: int = Field(128, gt=0)
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu"] = "relu"
    dropout_rate: float = Field(0.1, ge=0, lt=1, description="in training")
    initializer_factor: float = Field(1.0, gt=0, description="what the original standard deviations are multiplied by")
    tie_word_embeddings: bool = Field(True, description="the head shares the embedding and its input is scaled by 1/√D")
    pad_token_id: int = 0
    eos_token_id: int = 1
    decoder_start_token_id: int = 0
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "T5Config":
        check_token_ids(self, "decoder_start_token_id")
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.d_model

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.n_positions

    @property
    def kv_heads(self) -> int:
        """G; every query head has its own."""
        return self.num_heads

    @property
    def kv_width(self) -> int:
        """K."""
        return self.d_kv


def config_from_hf(values: dict[str, Any]) -> T5Config:
    """Read the `config.json` of a Hugging Face folder.

    Newer transformers write `tie_word_embeddings: true` for every T5 and tell the versions apart by `scale_decoder_outputs`.
    """
    feed_forward = values.get("feed_forward_proj", "relu")
    if feed_forward not in _FEED_FORWARDS:
        raise CheckpointError(
            f"only {' and '.join(_FEED_FORWARDS)} are supported", field="feed_forward_proj", value=feed_forward
        )
    known = {
        name: values[name] for name in T5Config.model_fields if values.get(name) is not None and name != "attention"
    }
    known["tie_word_embeddings"] = values.get("scale_decoder_outputs", values.get("tie_word_embeddings", True))
    return T5Config.model_validate(known)


def config_to_hf(config: T5Config) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        **config.model_dump(exclude={"attention"}, exclude_none=True),
        "scale_decoder_outputs": config.tie_word_embeddings,
        "is_encoder_decoder": True,
    }
