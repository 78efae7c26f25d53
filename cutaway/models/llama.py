"""The Llama family: Llama 1–3, Mistral, Qwen2, Qwen3, SmolLM and whatever else has their shape.

Pre-norm decoder with RMSNorm, rotary positions, grouped key-value heads and SwiGLU (Touvron et al. 2023). Modules are named like
the Hugging Face checkpoint's tensors, so a state dict needs no mapping.

Shapes: B batch, T positions, S key positions, D model width, H query heads, G key-value heads, K head width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cutaway.models.decoder import Decoder
from cutaway.models.llama_config import LlamaConfig, config_from_hf, config_to_hf
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.feedforward import GatedFeedForward
from cutaway.nn.norm import RMSNorm
from cutaway.nn.rope import apply_rope, rope_frequencies, rope_tables
from cutaway.nn.sinks import sink_bias, sink_positions

__all__ = ["MODEL_TYPES", "Llama", "LlamaConfig", "build", "config_from_hf", "config_to_hf", "from_hf_tensors"]

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig):
        super().__init__()
        D, K = config.hidden_size, config.head_dim
        self.H, self.G, self.K = config.num_attention_heads, config.num_key_value_heads, K
        self.q_proj = nn.Linear(D, self.H * K, bias=config.attention_bias)
        self.k_proj = nn.Linear(D, self.G * K, bias=config.attention_bias)
        self.v_proj = nn.Linear(D, self.G * K, bias=config.attention_bias)
        self.o_proj = nn.Linear(self.H * K, D, bias=config.attention_output_bias)
        if config.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(K, config.rms_norm_eps), RMSNorm(K, config.rms_norm_eps)
        self.qk_norm, self.sinks = config.qk_norm, 0  # the model says
        self.attend = Attend(K**-0.5, config.attention)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, ...], mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """`rope`: cos and sin of the positions; where there are sinks that count as nearer, also of the `sink_positions`."""
        B, T, _ = x_BTD.shape
        q_BTHK = self.q_proj(x_BTD).view(B, T, self.H, self.K)
        k_BTGK = self.k_proj(x_BTD).view(B, T, self.G, self.K)
        if self.qk_norm:
            q_BTHK, k_BTGK = self.q_norm(q_BTHK), self.k_norm(k_BTGK)
        near, to_sinks = rope[:2], rope[2:]
        q_BHTK, k_BGSK = apply_rope(q_BTHK.transpose(1, 2), *near), apply_rope(k_BTGK.transpose(1, 2), *near)
        v_BGSK = self.v_proj(x_BTD).view(B, T, self.G, self.K).transpose(1, 2)
        if cache is not None:
            k_BGSK, v_BGSK = cache.write(layer, k_BGSK, v_BGSK)
        bias = None
        if to_sinks:
            turned = apply_rope(q_BTHK.transpose(1, 2), *to_sinks)
            bias = sink_bias(q_BHTK, turned, k_BGSK, self.sinks, self.attend.scale)
        out_BHTK = self.attend(q_BHTK, k_BGSK, v_BGSK, mask, bias)
        return self.o_proj(out_BHTK.transpose(1, 2).reshape(B, T, self.H * self.K))


class Block(nn.Module):
    """One layer. A family with another feed-forward part gives it in `mlp`."""

    def __init__(self, config: LlamaConfig, layer: int, mlp: nn.Module | None = None):
        super().__init__()
        self.layer = layer
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = mlp or GatedFeedForward(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, ...], mask: Tensor | None, cache: KVCache | None = None
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, mask, cache, self.layer)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Trunk(nn.Module):
    def __init__(self, config: LlamaConfig, blocks: Iterable[nn.Module]):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Llama(Decoder):
    """A Llama-style decoder with random weights; `models.load` fills it from a checkpoint."""

    EMBEDDING, BLOCKS, FINAL_NORM = "model.embed_tokens", "model.layers", "model.norm"

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.model = Trunk(config, (self.block(layer) for layer in range(config.num_hidden_layers)))
        self.finish()
        self.set_reach(config)

    def set_reach(self, config: LlamaConfig) -> None:
        """Take another configuration, which differs in positions, window and sinks alone."""
        self.config, self.window, self.sinks = config, config.sliding_window, config.attention_sinks
        for module in self.modules():
            if isinstance(module, Attention):
                module.sinks = config.attention_sinks

    def block(self, layer: int) -> nn.Module:
        """One layer, new."""
        return Block(self.config, layer)

    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The residual stream after the last block."""
        x_BTD = self.embedding(ids_BT)
        rope = self._rope(positions_BT, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, rope, mask, cache)
        return x_BTD

    def _rope(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        c, sinks = self.config, self.window is not None and self.sinks
        length = int(positions_BT.max()) + 1 if sinks or c.rope_scaling.rope_type == "dynamic" else 0
        frequencies, factor = rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling, c.context, length)
        frequencies = frequencies.to(positions_BT.device)
        tables = rope_tables(positions_BT, frequencies, factor, dtype)
        if self.window is None or not sinks or length <= self.window + sinks:
            return tables
        return *tables, *rope_tables(sink_positions(positions_BT, self.window, sinks), frequencies, factor, dtype)


def from_hf_tensors(name: str, tensor: Tensor, config: LlamaConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for the rotary frequencies that older ones store."""
    return None if name.endswith(".rotary_emb.inv_freq") else (name, tensor)


def build(config: LlamaConfig) -> Llama:
    """A fresh model."""
    return Llama(config)
