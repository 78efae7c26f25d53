"""The shape of a CLIP model, and how `config.json` spells it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.nn.activation import ActivationName, check_activation


class TowerConfig(Config):
    """What both towers have; field names are those of `config.json`."""

    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(12, gt=0)
    num_attention_heads: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    hidden_act: ActivationName = "quick_gelu"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _whole_heads(self) -> "TowerConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self


class TextConfig(TowerConfig):
    """The text tower."""

    hidden_size: int = Field(512, gt=0)
    num_attention_heads: int = Field(8, gt=0)
    intermediate_size: int = Field(2048, gt=0)
    vocab_size: int = Field(49408, gt=0)
    max_position_embeddings: int = Field(77, gt=0, description="context, in tokens")
    eos_token_id: int = Field(49407, ge=0, description="the token whose hidden state stands for the text")


class VisionConfig(TowerConfig):
    """The image tower."""

    hidden_size: int = Field(768, gt=0)
    num_attention_heads: int = Field(12, gt=0)
    intermediate_size: int = Field(3072, gt=0)
    image_size: int = Field(224, gt=0, description="side, in pixels")
    patch_size: int = Field(32, gt=0, description="side, in pixels")
    num_channels: int = Field(3, gt=0)

    @model_validator(mode="after")
    def _patch_fits(self) -> "VisionConfig":
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size {self.patch_size} is larger than image_size {self.image_size}")
        return self


class CLIPConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["clip"] = "clip"
    text_config: TextConfig = TextConfig()
    vision_config: VisionConfig = VisionConfig()
    projection_dim: int = Field(512, gt=0, description="P")
    logit_scale_init_value: float = Field(2.6592, description="ln(1 / 0.07), section 2.5")

    @property
    def vocab_size(self) -> int:
        """V of the text tower."""
        return self.text_config.vocab_size

    @property
    def num_attention_heads(self) -> int:
        """H of the text tower."""
        return self.text_config.num_attention_heads


def config_from_hf(values: dict[str, Any]) -> CLIPConfig:
    """Read the `config.json` of a Hugging Face folder. Where an old one has `text_config_dict`, that wins, as it does there."""
    known = {name: values[name] for name in CLIPConfig.model_fields if values.get(name) is not None}
    for name, kind in (("text_config", TextConfig), ("vision_config", VisionConfig)):
        tower = {**(values.get(name) or {}), **(values.get(f"{name}_dict") or {})}
        check_activation(tower, "hidden_act")
        known[name] = {
            field: tower[field] for field in kind.model_fields if tower.get(field) is not None and field != "attention"
        }
    return CLIPConfig.model_validate(known)


def config_to_hf(config: CLIPConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    shared = {"projection_dim": config.projection_dim}
    text = config.text_config.model_dump(exclude={"attention"})
    vision = config.vision_config.model_dump(exclude={"attention"})
    return {
        "architectures": ["CLIPModel"],
        **config.model_dump(exclude={"text_config", "vision_config"}),
        "text_config": {"model_type": "clip_text_model", **text, **shared},
        "vision_config": {"model_type": "clip_vision_model", **vision, **shared},
    }
