"""The original Transformer (Vaswani et al. 2017): an encoder-decoder over tokens.

The paper's is the default: sinusoidal positions, the norm after each sub-layer, ReLU, one embedding for source, target and
output head, multiplied by √D where it is read. Learned positions (Gehring et al. 2017), the norm before each sub-layer with one
more at the end of each stack (Baevski & Auli 2019), and other activations are values of the configuration. Dropout is the
paper's: on the sums of embeddings and positions, and on what each sub-layer gives.

No other library's checkpoint has this shape, so `config.json` and the tensors' names are ours: the fields of `TransformerConfig`,
and the names of the modules below.

Shapes: B batch, S source positions, T target positions, D model width, F feed-forward width, H heads, K head width.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.token_ids import check_token_ids
from cutaway.nn.activation import ACTIVATIONS, ActivationName
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import CrossAttention, Memory, SelfAttention
from cutaway.nn.positions import sinusoidal

MODEL_TYPES = ("transformer",)


class TransformerConfig(Config):
    """The shape of a model. The defaults are small; the paper's base model is 512 wide, with 6 + 6 layers, 8 heads and 2048 in
    the feed-forward."""

    model_type: Literal["transformer"] = "transformer"
    vocab_size: int = Field(8192, gt=0)
    source_vocab_size: int | None = Field(
        None, gt=0, description="a source embedding of its own; None: the target's is shared"
    )
    hidden_size: int = Field(256, gt=0)
    intermediate_size: int = Field(1024, gt=0)
    num_encoder_layers: int = Field(3, gt=0)
    num_decoder_layers: int = Field(3, gt=0)
    num_attention_heads: int = Field(4, gt=0)
    max_position_embeddings: int = Field(512, gt=0, description="context, in tokens")
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    norm: Literal["post", "pre"] = Field(
        "post", description="normalise after each sub-layer, as the paper, or before it"
    )
    hidden_act: ActivationName = "relu"
    layer_norm_eps: float = 1e-5
    dropout: float = Field(0.1, ge=0, lt=1, description="in training")
    tie_word_embeddings: bool = Field(True, description="the output head shares the target's embedding")
    decoder_start_token_id: int = Field(0, ge=0, description="what every target begins with")
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "TransformerConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        check_token_ids(self, "decoder_start_token_id")
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
    def kv_heads(self) -> int:
        """G; every query head has its own."""
        return self.num_attention_heads

    @property
    def kv_width(self) -> int:
        """K."""
        return self.hidden_size // self.num_attention_heads


class FeedForward(nn.Module):
    """Two linear layers, section 3.3."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class SubLayer(nn.Module):
    """norm(x + inner(x)) as in the paper, or x + inner(norm(x)), which trains without a warm-up (Xiong et al. 2020)."""

    def __init__(self, inner: nn.Module, config: TransformerConfig):
        super().__init__()
        self.inner, self.before = inner, config.norm == "pre"
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, *given: Any) -> Tensor:
        if self.before:
            return x_BTD + self.dropout(self.inner(self.norm(x_BTD), *given))
        return self.norm(x_BTD + self.dropout(self.inner(x_BTD, *given)))


class EncoderBlock(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.attention = SubLayer(SelfAttention(**_heads(config)), config)
        self.feed_forward = SubLayer(FeedForward(config), config)

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        return self.feed_forward(self.attention(x_BSD, mask))


class DecoderBlock(nn.Module):
    def __init__(self, config: TransformerConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.attention = SubLayer(SelfAttention(**_heads(config)), config)
        self.cross_attention = SubLayer(CrossAttention(**_heads(config)), config)
        self.feed_forward = SubLayer(FeedForward(config), config)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None) -> Tensor:
        x_BTD = self.attention(x_BTD, mask, None, cache, self.layer)
        return self.feed_forward(self.cross_attention(x_BTD, memory, self.layer))


class Stack(nn.Module):
    """The blocks of one side, its positions, and the norm at its end."""

    def __init__(self, config: TransformerConfig, blocks: list[nn.Module]):
        super().__init__()
        D = config.hidden_size
        self.embed_positions = nn.Embedding(config.context, D) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(D, config.layer_norm_eps) if config.norm == "pre" else nn.Identity()

    def placed(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        """Embeddings scaled and with their positions, section 3.4 and 3.5."""
        D, learned = x_BTD.shape[-1], self.embed_positions
        places = sinusoidal(positions_BT, D).to(x_BTD.dtype) if learned is None else learned(positions_BT)
        return self.dropout(x_BTD * math.sqrt(D) + places)


class Transformer(EncoderDecoder):
    """An encoder-decoder with random weights."""

    EMBEDDING, ENCODER_BLOCKS, BLOCKS, FINAL_NORM = "embed_tokens", "encoder.layers", "decoder.layers", "decoder.norm"

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        D = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, D)
        self.embed_source = nn.Embedding(config.source_vocab_size, D) if config.source_vocab_size else None
        self.encoder = Stack(config, [EncoderBlock(config) for _ in range(config.num_encoder_layers)])
        self.decoder = Stack(config, [DecoderBlock(config, layer) for layer in range(config.num_decoder_layers)])
        self.finish()
        self._draw()

    @property
    def source_embedding(self) -> nn.Embedding:
        """The embedding of the source's tokens."""
        return self.embed_tokens if self.embed_source is None else self.embed_source

    def encoded(self, source_BS: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm."""
        positions_BS = torch.arange(source_BS.shape[1], device=source_BS.device)[None]
        x_BSD = self.encoder.placed(self.source_embedding(source_BS), positions_BS)
        for block in self.encoder_blocks:
            x_BSD = block(x_BSD, mask_B11S)
        return self.encoder.norm(x_BSD)

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block."""
        x_BTD = self.decoder.placed(self.embedding(target_BT), positions_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, mask, memory, cache)
        return x_BTD

    def _draw(self) -> None:
        """Projections by Glorot & Bengio 2010, and embeddings of unit length, as in the authors' code."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.hidden_size**-0.5)
            elif isinstance(module, nn.Linear) and module.weight is not self.embedding.weight:
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _heads(config: TransformerConfig) -> dict[str, Any]:
    K = config.kv_width
    widths = {"D": config.hidden_size, "H": config.num_attention_heads, "K": K}
    return {**widths, "bias": True, "scale": K**-0.5, "backend": config.attention}


def config_from_hf(values: dict[str, Any]) -> TransformerConfig:
    """Read a `config.json` that `config_to_hf` wrote, or one by hand."""
    return TransformerConfig.model_validate(
        {name: values[name] for name in TransformerConfig.model_fields if name in values}
    )


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The values of `config.json`."""
    return {**config.model_dump(exclude={"attention"}), "is_encoder_decoder": True}


def build(config: TransformerConfig) -> Transformer:
    """A fresh model."""
    return Transformer(config)
