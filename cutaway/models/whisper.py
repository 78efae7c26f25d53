"""Whisper (Radford et al. 2022): an encoder-decoder from log-mel spectrograms to text.

Two convolutions halve the frame rate; the encoder adds sinusoids, the decoder learned positions; both stacks are pre-norm with
biases everywhere but at the keys. Modules are named like the Hugging Face checkpoint's tensors, but for the output head: there
`proj_out`, here `lm_head` as in every family.

B batch, F mel bands, M mel frames, S source positions (M / 2), T target positions, D model width, H heads, K head width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.errors import ContextLengthError, DataError
from cutaway.models.decoder import initialise
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.whisper_config import WhisperConfig, config_from_hf, config_to_hf
from cutaway.nn.activation import ACTIVATIONS
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import Memory

__all__ = [
    "MODEL_TYPES",
    "Whisper",
    "WhisperConfig",
    "build",
    "config_from_hf",
    "config_to_hf",
    "from_hf_tensors",
    "to_hf_tensors",
]

MODEL_TYPES = ("whisper",)


class Attention(nn.Module):
    """Queries of one sequence, keys and values of the same or of another."""

    def __init__(self, config: WhisperConfig, H: int):
        super().__init__()
        D = config.d_model
        self.H, self.K = H, D // H
        self.q_proj, self.v_proj, self.out_proj = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.k_proj = nn.Linear(D, D, bias=False)  # a bias there would shift all scores of a query alike
        self.attend = Attend(self.K**-0.5, config.attention)

    def keys_values(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """B × H × S × K each."""
        return self._heads(self.k_proj(x_BSD)), self._heads(self.v_proj(x_BSD))

    def forward(self, x_BTD: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Tensor | None) -> Tensor:
        out_BHTK = self.attend(self._heads(self.q_proj(x_BTD)), k_BHSK, v_BHSK, mask)
        return self.out_proj(out_BHTK.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.H, self.K)).transpose(1, 2)


class EncoderBlock(nn.Module):
    def __init__(self, config: WhisperConfig):
        super().__init__()
        D, F = config.d_model, config.encoder_ffn_dim
        self.self_attn = Attention(config, config.encoder_attention_heads)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.fc1, self.fc2 = nn.Linear(D, F), nn.Linear(F, D)
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        normed = self.self_attn_layer_norm(x_BSD)
        x_BSD = x_BSD + self.dropout(self.self_attn(normed, *self.self_attn.keys_values(normed), mask))
        return x_BSD + self.dropout(self.fc2(self.activation(self.fc1(self.final_layer_norm(x_BSD)))))


class DecoderBlock(nn.Module):
    def __init__(self, config: WhisperConfig, layer: int):
        super().__init__()
        D, F, H = config.d_model, config.decoder_ffn_dim, config.decoder_attention_heads
        self.layer = layer
        self.self_attn, self.encoder_attn = Attention(config, H), Attention(config, H)
        self.self_attn_layer_norm, self.encoder_attn_layer_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.fc1, self.fc2, self.final_layer_norm = nn.Linear(D, F), nn.Linear(F, D), nn.LayerNorm(D)
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None) -> Tensor:
        normed = self.self_attn_layer_norm(x_BTD)
        k, v = self.self_attn.keys_values(normed)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)
        x_BTD = x_BTD + self.dropout(self.self_attn(normed, k, v, mask))

        k, v = memory.keys_values(self.layer, self.encoder_attn.keys_values)
        read = self.encoder_attn(self.encoder_attn_layer_norm(x_BTD), k, v, memory.mask)
        x_BTD = x_BTD + self.dropout(read)
        return x_BTD + self.dropout(self.fc2(self.activation(self.fc1(self.final_layer_norm(x_BTD)))))


class Encoder(nn.Module):
    def __init__(self, config: WhisperConfig):
        super().__init__()
        D = config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, D, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(D, D, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, D)
        self.layers = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, mel_BFM: Tensor, mask: Tensor) -> Tensor:
        x_BDM = functional.gelu(self.conv1(mel_BFM.to(self.conv1.weight.dtype)))
        x_BSD = functional.gelu(self.conv2(x_BDM)).transpose(1, 2)
        x_BSD = self.dropout(x_BSD + self.embed_positions.weight[: x_BSD.shape[1]])
        for block in self.layers:
            x_BSD = block(x_BSD, mask)
        return self.layer_norm(x_BSD)


class Decoder(nn.Module):
    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = nn.Embedding(config.max_target_positions, config.d_model)
        self.layers = nn.ModuleList(DecoderBlock(config, layer) for layer in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)


class Trunk(nn.Module):
    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)


class Whisper(EncoderDecoder):
    """A Whisper with random weights; `models.load` fills it from a checkpoint."""

    SOURCE = "audio"
    EMBEDDING, FINAL_NORM = "model.decoder.embed_tokens", "model.decoder.layer_norm"
    ENCODER_BLOCKS, BLOCKS = "model.encoder.layers", "model.decoder.layers"

    def __init__(self, config: WhisperConfig):
        super().__init__(config)
        self.model = Trunk(config)
        self.finish()
        initialise(self, config.init_std)
        positions = self.model.encoder.embed_positions.weight.requires_grad_(False)
        positions.copy_(sinusoids(config.max_source_positions, config.d_model))

    def source_positions(self, mel_BFM: Tensor) -> int:
        """S: one position per two frames."""
        return (mel_BFM.shape[2] + 1) // 2

    def encode(self, mel_BFM: Tensor, *, mask_BS: Tensor | None = None) -> Tensor:
        """The memory that the decoder reads, B × S × D.

        Args:
            mel_BFM: log-mel spectrograms (`data.audio.log_mel`). The published checkpoints learned on 2 · S frames filled up
                with silence and know no others; a model trained here may be given fewer.
            mask_BS: true where there is sound; by default everywhere, as the published checkpoints learned.

        Raises:
            DataError: another number of mel bands.
            ContextLengthError: more frames than the model has positions for.
        """
        _, F, M = mel_BFM.shape
        most = 2 * self.config.max_source_positions
        if self.config.num_mel_bins != F:
            raise DataError("wrong number of mel bands", field="audio", value=F, hint=str(self.config.num_mel_bins))
        if most < M:
            raise ContextLengthError("too many frames", field="audio", value=M, hint=f"at most {most}; cut the sound")
        return super().encode(mel_BFM, mask_BS=mask_BS)

    def encoded(self, source_BS: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm."""
        return self.model.encoder(source_BS, mask_B11S)

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block."""
        decoder = self.model.decoder
        x_BTD = decoder.dropout(decoder.embed_tokens(target_BT) + decoder.embed_positions(positions_BT))
        for block in self.blocks:
            x_BTD = block(x_BTD, mask, memory, cache)
        return x_BTD


def sinusoids(S: int, D: int) -> Tensor:
    """S × D: sines, then cosines, of D/2 angular frequencies from 1 to 1/10000, evenly spaced on a logarithmic scale.

    Vaswani et al. 2017 interleave the two and stop one step before 1/10000.
    """
    frequencies = torch.exp(-math.log(10_000) / (D // 2 - 1) * torch.arange(D // 2))
    angles = torch.arange(S)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def from_hf_tensors(name: str, tensor: Tensor, config: WhisperConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; one without an output head has no prefix."""
    if name == "proj_out.weight":
        return "lm_head.weight", tensor
    return name if name.startswith("model.") else f"model.{name}", tensor


def to_hf_tensors(name: str, tensor: Tensor, config: WhisperConfig) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    return name.replace("lm_head.", "proj_out."), tensor


def build(config: WhisperConfig) -> Whisper:
    """A fresh model."""
    return Whisper(config)
