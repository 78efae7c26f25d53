"""BERT (Devlin et al. 2019): a post-norm encoder that sees both sides.

Modules are named like the Hugging Face `BertModel`'s tensors. B batch, T positions, D model width, H heads, K head width.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.models.decoder import initialise
from cutaway.nn.attention import Attend

MODEL_TYPES = ("bert",)
_ELSEWHERE = ("cls.", "pooler.", "embeddings.position_ids")


class BertConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["bert"] = "bert"
    vocab_size: int = Field(30522, gt=0)
    hidden_size: int = Field(768, gt=0)
    num_hidden_layers: int = Field(12, gt=0)
    num_attention_heads: int = Field(12, gt=0)
    intermediate_size: int = Field(3072, gt=0)
    max_position_embeddings: int = Field(512, gt=0, description="context, in tokens")
    type_vocab_size: int = Field(2, gt=0)
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _whole_heads(self) -> "BertConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, ids_BT: Tensor, types_BT: Tensor) -> Tensor:
        positions = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        return self.LayerNorm(
            self.word_embeddings(ids_BT) + self.token_type_embeddings(types_BT) + self.position_embeddings(positions)
        )


class SelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        D = config.hidden_size
        self.H, self.K = config.num_attention_heads, D // config.num_attention_heads
        self.query, self.key, self.value = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.attend = Attend(self.K**-0.5, config.attention)

    def forward(self, x_BTD: Tensor, mask: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            part(x_BTD).view(B, T, self.H, self.K).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.attend(q, k, v, mask).transpose(1, 2).reshape(B, T, D)


class AddNorm(nn.Module):
    """Project, add what came in, normalise: the post-norm sub-layer ending."""

    def __init__(self, width: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, inner: Tensor, x_BTD: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(inner) + x_BTD)


class Block(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddNorm(config.hidden_size, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = AddNorm(config.intermediate_size, config)

    def forward(self, x_BTD: Tensor, mask: Tensor) -> Tensor:
        x_BTD = self.attention["output"](self.attention["self"](x_BTD, mask), x_BTD)
        return self.output(functional.gelu(self.intermediate["dense"](x_BTD)), x_BTD)


class Bert(nn.Module):
    """A BERT encoder with random weights; `models.load` fills it from a checkpoint."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))})
        initialise(self, config.initializer_range)

    def tie(self) -> None:
        """Nothing is shared."""

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.embeddings.word_embeddings

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.config.max_position_embeddings

    def forward(self, ids_BT: Tensor, *, mask_BTS: Tensor, types_BT: Tensor | None = None) -> Tensor:
        """Final hidden states, B × T × D.

        Args:
            mask_BTS: true where a position may attend; `nn.masks.padding_mask` makes it from lengths.
            types_BT: 0 for the first and 1 for the second sentence; all 0 by default.
        """
        x_BTD = self.embeddings(ids_BT, torch.zeros_like(ids_BT) if types_BT is None else types_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BTS)
        return x_BTD


def config_from_hf(values: dict[str, Any]) -> BertConfig:
    """Read the `config.json` of a Hugging Face folder."""
    if values.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError("only gelu is supported", field="hidden_act", value=values["hidden_act"])
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise CheckpointError(
            "only absolute is supported", field="position_embedding_type", value=values["position_embedding_type"]
        )
    known = {
        name: values[name] for name in BertConfig.model_fields if values.get(name) is not None and name != "attention"
    }
    return BertConfig.model_validate(known)


def config_to_hf(config: BertConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return {"architectures": ["BertModel"], **config.model_dump(exclude={"attention"}), "hidden_act": "gelu"}


def from_hf_tensors(name: str, tensor: Tensor) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for heads that this encoder does not have."""
    name = name.removeprefix("bert.")
    return None if name.startswith(_ELSEWHERE) else (name, tensor)


def build(config: BertConfig) -> Bert:
    """A fresh model."""
    return Bert(config)
