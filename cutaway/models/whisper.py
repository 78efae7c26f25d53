"""Whisper (Radford et al. 2022): an encoder-decoder from log-mel spectrograms to text.

The decoder adds learned positions; both stacks are pre-norm with biases everywhere but at the keys. Modules are named like the
Hugging Face checkpoint's tensors, but for the output head: there `proj_out`, here `lm_head` as in every family. With labels the
family is the encoder with a head for them.

B batch, F mel bands, M mel frames, S source positions (M / 2), T target positions, D model width, H heads, K head width.
"""

from torch import Tensor, nn

from cutaway.models.decoder import initialise
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.whisper_classifier import WhisperClassifier
from cutaway.models.whisper_config import WhisperConfig, config_from_hf, config_to_hf
from cutaway.models.whisper_encoder import Attention, Encoder
from cutaway.nn.activation import ACTIVATIONS
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
    "with_labels",
]

MODEL_TYPES = ("whisper",)


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
        self.model.encoder.set_positions()

    def source_positions(self, mel_BFM: Tensor) -> int:
        """S: one position per two frames."""
        return self.model.encoder.positions(mel_BFM)

    def encoded(self, source: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm."""
        return self.model.encoder(source, mask_B11S)

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block."""
        decoder = self.model.decoder
        x_BTD = decoder.dropout(decoder.embed_tokens(target_BT) + decoder.embed_positions(positions_BT))
        for block in self.blocks:
            x_BTD = block(x_BTD, mask, memory, cache)
        return x_BTD


def from_hf_tensors(name: str, tensor: Tensor, config: WhisperConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; one without an output head has no prefix."""
    if config.labels:
        return name, tensor
    if name == "proj_out.weight":
        return "lm_head.weight", tensor
    return name if name.startswith("model.") else f"model.{name}", tensor


def to_hf_tensors(name: str, tensor: Tensor, config: WhisperConfig) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    return name.replace("lm_head.", "proj_out."), tensor


def build(config: WhisperConfig) -> Whisper | WhisperClassifier:
    """A fresh model: one that writes, or one with a head for the labels that the configuration names."""
    return WhisperClassifier(config) if config.labels else Whisper(config)


def with_labels(model: Whisper | WhisperClassifier, labels: tuple[str, ...]) -> WhisperClassifier:
    """The encoder of `model`, shared with it, under a fresh head for labels."""
    made = WhisperClassifier(model.config.model_copy(update={"labels": labels}))
    made.encoder = model.model.encoder if isinstance(model, Whisper) else model.encoder
    return made
