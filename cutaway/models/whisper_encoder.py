"""What Whisper hears with: two convolutions that halve the frame rate, sinusoids, and a pre-norm stack.

B batch, F mel bands, M mel frames, S source positions (M / 2), T queries, D model width, H heads, K head width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.errors import ContextLengthError, DataError
from cutaway.models.whisper_config import WhisperConfig
from cutaway.nn.activation import ACTIVATIONS
from cutaway.nn.attention import Attend


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

    def set_positions(self) -> None:
        """Positions are sinusoids, and nothing is learned of them."""
        weight = self.embed_positions.weight.requires_grad_(False)
        weight.copy_(sinusoids(*weight.shape))

    def positions(self, mel_BFM: Tensor) -> int:
        """S: one per two frames."""
        return (mel_BFM.shape[2] + 1) // 2

    def forward(self, mel_BFM: Tensor, mask_B11S: Tensor) -> Tensor:
        """Hidden states, B × S × D, after the last norm.

        Args:
            mel_BFM: log-mel spectrograms (`data.audio.log_mel`). The published checkpoints learned on 2 · S frames filled up
                with silence and know no others; a model trained here may be given fewer.
            mask_B11S: true where there is sound; the published checkpoints learned with none hidden.

        Raises:
            DataError: another number of mel bands.
            ContextLengthError: more frames than the model has positions for.
        """
        bands, most = self.conv1.in_channels, 2 * self.embed_positions.num_embeddings
        _, F, M = mel_BFM.shape
        if bands != F:
            raise DataError("wrong number of mel bands", field="audio", value=F, hint=str(bands))
        if most < M:
            raise ContextLengthError("too many frames", field="audio", value=M, hint=f"at most {most}; cut the sound")
        x_BDM = functional.gelu(self.conv1(mel_BFM.to(self.conv1.weight.dtype)))
        x_BSD = functional.gelu(self.conv2(x_BDM)).transpose(1, 2)
        x_BSD = self.dropout(x_BSD + self.embed_positions.weight[: x_BSD.shape[1]])
        for block in self.layers:
            x_BSD = block(x_BSD, mask_B11S)
        return self.layer_norm(x_BSD)


def sinusoids(S: int, D: int) -> Tensor:
    """S × D: sines, then cosines, of D/2 angular frequencies from 1 to 1/10000, evenly spaced on a logarithmic scale.

    Vaswani et al. 2017 interleave the two and stop one step before 1/10000.
    """
    frequencies = torch.exp(-math.log(10_000) / (D // 2 - 1) * torch.arange(D // 2))
    angles = torch.arange(S)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)
