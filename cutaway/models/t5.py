"""T5 (Raffel et al. 2020), version 1.0, and 1.1 with Flan-T5: an encoder-decoder with relative positions.

Pre-norm with RMSNorm, no biases, scores that are not scaled (the initialisation of q does it), and one learned bias by
distance for all layers of a stack. Version 1.0 has a ReLU feed-forward and shares the embedding with the head, of which the
input is then scaled by 1/√D; version 1.1 has a gated GELU and a head of its own. Modules are named like the Hugging Face
checkpoint's tensors.

In training, dropout falls where the original has it but for the attention weights: so every attention backend can serve.

Shapes: B batch, S source positions, T target positions, D model width, F feed-forward width, H heads, K head width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.t5_config import T5Config, config_from_hf, config_to_hf
from cutaway.nn.activation import gelu_tanh
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import CrossAttention, Memory, SelfAttention
from cutaway.nn.norm import RMSNorm
from cutaway.nn.positions import RelativeBias

__all__ = ["MODEL_TYPES", "T5", "T5Config", "build", "config_from_hf", "config_to_hf", "from_hf_tensors"]

MODEL_TYPES = ("t5",)


class DenseReLU(nn.Module):
    def __init__(self, config: T5Config):
        super().__init__()
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.wo(self.dropout(functional.relu(self.wi(x_BTD))))


class DenseGatedGELU(nn.Module):
    def __init__(self, config: T5Config):
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.wo(self.dropout(gelu_tanh(self.wi_0(x_BTD)) * self.wi_1(x_BTD)))


class SubLayer(nn.Module):
    """x + inner(norm(x)), the inner module under its name in the checkpoint."""

    def __init__(self, name: str, inner: nn.Module, config: T5Config):
        super().__init__()
        self.name = name
        self.add_module(name, inner)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x_BTD: Tensor, *given: Any) -> Tensor:
        return x_BTD + self.dropout(self.get_submodule(self.name)(self.layer_norm(x_BTD), *given))


class Block(nn.Module):
    """A layer of either stack; the first of each holds the position bias for all."""

    def __init__(self, config: T5Config, index: int, decoder: bool):
        super().__init__()
        self.index = index
        heads: dict[str, Any] = dict(bias=False, scale=1.0, backend=config.attention)
        own = SelfAttention(config.d_model, config.num_heads, config.d_kv, **heads)
        if index == 0:
            own.relative_attention_bias = RelativeBias(
                config.relative_attention_num_buckets,
                config.relative_attention_max_distance,
                two_sided=not decoder,
                H=config.num_heads,
            )
        layers = [SubLayer("SelfAttention", own, config)]
        if decoder:
            cross = CrossAttention(config.d_model, config.num_heads, config.d_kv, **heads)
            layers.append(SubLayer("EncDecAttention", cross, config))
        dense = DenseReLU if config.feed_forward_proj == "relu" else DenseGatedGELU
        layers.append(SubLayer("DenseReluDense", dense(config), config))
        self.layer = nn.ModuleList(layers)

    def forward(
        self, x_BTD: Tensor, mask: Tensor | None, bias: Tensor, memory: Memory | None, cache: KVCache | None
    ) -> Tensor:
        x_BTD = self.layer[0](x_BTD, mask, bias, cache, self.index)
        if memory is not None:
            x_BTD = self.layer[1](x_BTD, memory, self.index)
        return self.layer[-1](x_BTD)


class Stack(nn.Module):
    def __init__(self, config: T5Config, layers: int, decoder: bool):
        super().__init__()
        self.block: Any = nn.ModuleList(Block(config, index, decoder) for index in range(layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        mask: Tensor | None,
        memory: Memory | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The residual stream after the last block, before the norm."""
        keys = torch.arange(x_BTD.shape[1] + (cache.longest if cache is not None else 0), device=x_BTD.device)
        bias = self.block[0].layer[0].SelfAttention.relative_attention_bias(positions_BT, keys)
        x_BTD = self.dropout(x_BTD)
        for block in self.block:
            x_BTD = block(x_BTD, mask, bias, memory, cache)
        return x_BTD


class T5(EncoderDecoder):
    """A T5 with random weights; `models.load` fills it from a checkpoint."""

    EMBEDDING, ENCODER_BLOCKS, BLOCKS, FINAL_NORM = (
        "shared",
        "encoder.block",
        "decoder.block",
        "decoder.final_layer_norm",
    )

    def __init__(self, config: T5Config):
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, config.num_layers, decoder=False)
        self.decoder = Stack(config, config.num_decoder_layers or config.num_layers, decoder=True)
        self.finish()
        for name, weight in self.named_parameters():
            if "layer_norm" not in name:
                nn.init.normal_(weight, std=_std(name, config))

    def encoded(self, source_BS: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm."""
        positions_BS = torch.arange(source_BS.shape[1], device=source_BS.device)[None]
        x_BSD = self.encoder(self.shared(source_BS), positions_BS, mask_B11S)
        return self.encoder.dropout(self.encoder.final_layer_norm(x_BSD))

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block."""
        return self.decoder(self.shared(target_BT), positions_BT, mask, memory, cache)

    def to_output(self, h: Tensor) -> Tensor:
        """What the last layer reads; a shared embedding is scaled down."""
        h = self.decoder.dropout(h)
        return h * self.config.d_model**-0.5 if self.config.tie_word_embeddings else h


def _std(name: str, config: T5Config) -> float:
    """The standard deviation with which a weight begins: q's takes the place of the scaling of scores."""
    part = name.split(".")[-2]
    width = {
        "q": config.d_model * config.d_kv,
        "o": config.num_heads * config.d_kv,
        "wo": config.d_ff,
        "shared": 1,
        "lm_head": 1,
    }.get(part, config.d_model)
    return config.initializer_factor * width**-0.5


def from_hf_tensors(name: str, tensor: Tensor, config: T5Config) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for what stands there twice, and for a leftover of the original: a
    position bias of the first cross-attention, which nothing uses."""
    elsewhere = name.endswith((".embed_tokens.weight", "EncDecAttention.relative_attention_bias.weight"))
    return None if elsewhere else (name, tensor)


def build(config: T5Config) -> T5:
    """A fresh model."""
    return T5(config)
