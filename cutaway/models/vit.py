"""ViT (Dosovitskiy et al. 2021): a pre-norm encoder over the patches of an image, with a class token and learned positions.

Modules are named like the Hugging Face checkpoint's tensors. Its pooler is not read: the class token's last hidden state serves
classification, as in the paper.

B batch, C channels, T positions (the class token, then the patches), D model width, H heads, K head width, L labels. In pixels,
H × W is the height and width of an image.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.models.decoder import initialise
from cutaway.models.label_names import labels_from_hf, labels_to_hf
from cutaway.nn.activation import ACTIVATIONS, ActivationName, check_activation
from cutaway.nn.attention import Attend
from cutaway.nn.masks import full_mask
from cutaway.nn.patches import PatchEmbedding, Size, count_patches

MODEL_TYPES = ("vit",)


class ViTConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["vit"] = "vit"
    image_size: Size = Field(224, description="side, or height and width, in pixels")
    patch_size: Size = Field(16, description="side, or height and width, in pixels")
    num_channels: int = Field(3, gt=0)
    hidden_size: int = Field(768, gt=0)
    num_hidden_layers: int = Field(12, gt=0)
    num_attention_heads: int = Field(12, gt=0)
    intermediate_size: int = Field(3072, gt=0)
    hidden_act: ActivationName = "gelu"
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    labels: tuple[str, ...] = Field((), description="classes that the head tells apart; none: no head")
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "ViTConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if count_patches(self.image_size, self.patch_size) < 1:
            raise ValueError(f"patch_size {self.patch_size} is larger than image_size {self.image_size}")
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.hidden_size


class Embeddings(nn.Module):
    def __init__(self, config: ViTConfig):
        super().__init__()
        c, D = config, config.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        positions = 1 + count_patches(c.image_size, c.patch_size)
        self.position_embeddings = nn.Parameter(torch.randn(1, positions, D) * c.initializer_range)
        projection = PatchEmbedding(c.num_channels, D, c.image_size, c.patch_size)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels_BCHW)
        return torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), dim=1) + self.position_embeddings


class SelfAttention(nn.Module):
    def __init__(self, config: ViTConfig):
        super().__init__()
        D, bias = config.hidden_size, config.qkv_bias
        self.H, self.K = config.num_attention_heads, D // config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(D, D, bias=bias) for _ in range(3))
        self.attend = Attend(self.K**-0.5, config.attention)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            part(x_BTD).view(B, T, self.H, self.K).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.attend(q, k, v, full_mask(T, x_BTD.device)).transpose(1, 2).reshape(B, T, D)


class Block(nn.Module):
    def __init__(self, config: ViTConfig):
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.layernorm_before = nn.LayerNorm(D, config.layer_norm_eps)
        output = nn.ModuleDict({"dense": nn.Linear(D, D)})
        self.attention = nn.ModuleDict({"attention": SelfAttention(config), "output": output})
        self.layernorm_after = nn.LayerNorm(D, config.layer_norm_eps)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(D, F)})
        self.output = nn.ModuleDict({"dense": nn.Linear(F, D)})
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BTD: Tensor) -> Tensor:
        attended = self.attention["attention"](self.layernorm_before(x_BTD))
        x_BTD = x_BTD + self.attention["output"]["dense"](attended)  # type: ignore[index]
        inner = self.activation(self.intermediate["dense"](self.layernorm_after(x_BTD)))
        return x_BTD + self.output["dense"](inner)


class Trunk(nn.Module):
    def __init__(self, config: ViTConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))})
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.encoder["layer"]  # type: ignore[return-value]

    @property
    def context(self) -> int:
        """Positions: the class token and the patches."""
        return self.embeddings.position_embeddings.shape[1]

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Final hidden states, B × T × D, after the last norm."""
        x_BTD = self.embeddings(pixels_BCHW)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.layernorm(x_BTD)


class ViT(nn.Module):
    """A vision transformer with random weights, and a classifier if there are `labels`."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.vit = Trunk(config)
        if config.labels:
            self.classifier = nn.Linear(config.hidden_size, len(config.labels))
        initialise(self, config.initializer_range)

    def tie(self) -> None:
        """Nothing is shared."""

    @property
    def trunk(self) -> Trunk:
        """All but the head."""
        return self.vit

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.vit.blocks

    @property
    def context(self) -> int:
        """Positions: the class token and the patches."""
        return self.vit.context

    def source_positions(self, pixels_BCHW: Tensor) -> int:
        """T: the class token and the patches, whatever the image."""
        return self.context

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Final hidden states, B × T × D, after the last norm; position 0 is the class token's.

        Args:
            pixels_BCHW: normalised images (`data.images.prepare`).

        Raises:
            DataError: the images do not have the size that the model was made for.
        """
        return self.vit(pixels_BCHW)

    def label_logits(self, h_BTD: Tensor) -> Tensor:
        """Scores of every label, B × L, from the class token."""
        return self.classifier(h_BTD[:, 0])


def with_labels(model: ViT, labels: tuple[str, ...]) -> ViT:
    """The trunk of `model`, shared with it, under a fresh head for labels."""
    made = ViT(model.config.model_copy(update={"labels": labels}))
    made.vit = model.vit
    return made


def config_from_hf(values: dict[str, Any]) -> ViTConfig:
    """Read the `config.json` of a Hugging Face folder. Labels count only where a head was saved: every folder names some."""
    check_activation(values, "hidden_act")
    own = ViTConfig.model_fields.keys() - {"attention", "labels"}
    known = {name: values[name] for name in own if values.get(name) is not None}
    if "ViTForImageClassification" in (values.get("architectures") or ()):
        known["labels"] = labels_from_hf(values)
    return ViTConfig.model_validate(known)


def config_to_hf(config: ViTConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    values = config.model_dump(exclude={"attention", "labels"})
    architecture = "ViTForImageClassification" if config.labels else "ViTModel"
    return {"architectures": [architecture], **values, **labels_to_hf(config.labels)}


def from_hf_tensors(name: str, tensor: Tensor, config: ViTConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for the pooler. A checkpoint without a head has no prefix."""
    name = name if name.startswith(("vit.", "classifier.")) else f"vit.{name}"
    return None if name.startswith("vit.pooler.") else (name, tensor)


def build(config: ViTConfig) -> ViT:
    """A fresh model."""
    return ViT(config)
