"""The shape of a Whisper model, and how `config.json` spells it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.models.label_names import labels_from_hf, labels_to_hf
from cutaway.models.token_ids import check_token_ids
from cutaway.nn.activation import ActivationName, check_activation

_CLASSIFIER = "WhisperForAudioClassification"


class WhisperConfig(Config):
    """The shape of a model; field names are those of `config.json`, the defaults are Whisper tiny's."""

    model_type: Literal["whisper"] = "whisper"
    vocab_size: int = Field(51865, gt=0)
    num_mel_bins: int = Field(80, gt=0)
    d_model: int = Field(384, ge=4, multiple_of=2)
    encoder_layers: int = Field(4, gt=0)
    encoder_attention_heads: int = Field(6, gt=0)
    encoder_ffn_dim: int = Field(1536, gt=0)
    decoder_layers: int = Field(4, gt=0)
    decoder_attention_heads: int = Field(6, gt=0)
    decoder_ffn_dim: int = Field(1536, gt=0)
    activation_function: ActivationName = "gelu"
    max_source_positions: int = Field(1500, gt=0, description="half as many as mel frames: 1500 are 30 seconds")
    max_target_positions: int = Field(448, gt=0, description="context, in tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what each sub-layer adds, in training")
    init_std: float = 0.02
    tie_word_embeddings: bool = True
    pad_token_id: int = 50256
    bos_token_id: int = 50256
    eos_token_id: int = 50256
    decoder_start_token_id: int = 50257
    labels: tuple[str, ...] = Field(
        (), description="classes that a head tells sounds apart by; none: a model that writes"
    )
    classifier_proj_size: int = Field(256, gt=0, description="width between the encoder and the classes")
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "WhisperConfig":
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(f"d_model {self.d_model} is not a multiple of {name} {getattr(self, name)}")
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.d_model

    @property
    def context(self) -> int:
        """The most target positions."""
        return self.max_target_positions

    @property
    def kv_heads(self) -> int:
        """G of the decoder; every query head has its own."""
        return self.decoder_attention_heads

    @property
    def kv_width(self) -> int:
        """K of the decoder."""
        return self.d_model // self.decoder_attention_heads


def config_from_hf(values: dict[str, Any]) -> WhisperConfig:
    """Read the `config.json` of a Hugging Face folder. Labels count only where a head was saved."""
    check_activation(values, "activation_function")
    own = WhisperConfig.model_fields.keys() - {"attention", "labels"}
    known = {name: values[name] for name in own if values.get(name) is not None}
    if _CLASSIFIER in (values.get("architectures") or ()):
        if values.get("use_weighted_layer_sum"):
            raise CheckpointError("unsupported", field="use_weighted_layer_sum", value=True, hint="false")
        known["labels"] = labels_from_hf(values)
    return WhisperConfig.model_validate(known)


def config_to_hf(config: WhisperConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    values = config.model_dump(exclude={"attention", "labels"})
    architecture = _CLASSIFIER if config.labels else "WhisperForConditionalGeneration"
    return {"architectures": [architecture], **values, **labels_to_hf(config.labels), "is_encoder_decoder": True}
