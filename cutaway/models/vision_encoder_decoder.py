"""An image to text: a ViT that sees, and a GPT-2 that writes and reads what was seen in every layer (Li et al. 2021, TrOCR).

The format is that of Hugging Face's `VisionEncoderDecoderModel`. Both halves are the families' own; what is new is the attention
to the image between a block's attention to its text and its feed-forward layer. Modules are named like the checkpoint's tensors,
but for the output head: there `decoder.lm_head`, here `lm_head` as in every family.

B batch, C channels, S positions of an image (the class token, then the patches), T target positions, D model width, H heads,
K head width. In pixels, H × W is the height and width of an image.
"""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.models import gpt2, vit
from cutaway.models.decoder import initialise
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.gpt2 import GPT2Config
from cutaway.models.token_ids import check_token_ids
from cutaway.models.vit import ViTConfig
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import Memory

MODEL_TYPES = ("vision-encoder-decoder",)


class VisionEncoderDecoderConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["vision-encoder-decoder"] = "vision-encoder-decoder"
    encoder: ViTConfig = ViTConfig()
    decoder: GPT2Config = GPT2Config()
    pad_token_id: int = Field(50256, ge=0)
    bos_token_id: int = Field(50256, ge=0)
    eos_token_id: int = Field(50256, ge=0)
    decoder_start_token_id: int = Field(50256, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "VisionEncoderDecoderConfig":
        if self.encoder.labels:
            raise ValueError("encoder.labels: an encoder has no head")
        check_token_ids(self, "decoder_start_token_id")
        return self

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.decoder.vocab_size

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the decoder's embedding is its output head."""
        return self.decoder.tie_word_embeddings

    @property
    def width(self) -> int:
        """D of the decoder."""
        return self.decoder.width

    @property
    def context(self) -> int:
        """The most target positions."""
        return self.decoder.context

    @property
    def num_attention_heads(self) -> int:
        """H of the decoder."""
        return self.decoder.n_head

    @property
    def kv_heads(self) -> int:
        """G of the decoder."""
        return self.decoder.kv_heads

    @property
    def kv_width(self) -> int:
        """K of the decoder."""
        return self.decoder.kv_width


class CrossAttention(nn.Module):
    """Queries of the text, keys and values of the image."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        D = config.n_embd
        self.H, self.K = config.n_head, D // config.n_head
        self.c_attn, self.q_attn, self.c_proj = nn.Linear(D, 2 * D), nn.Linear(D, D), nn.Linear(D, D)
        self.attend = Attend(self.K**-0.5, config.attention)

    def keys_values(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """B × H × S × K each."""
        k_BSD, v_BSD = self.c_attn(x_BSD).chunk(2, dim=-1)
        return self._heads(k_BSD), self._heads(v_BSD)

    def forward(self, x_BTD: Tensor, memory: Memory, layer: int) -> Tensor:
        k_BHSK, v_BHSK = memory.keys_values(layer, self.keys_values)
        out_BHTK = self.attend(self._heads(self.q_attn(x_BTD)), k_BHSK, v_BHSK, memory.mask)
        return self.c_proj(out_BHTK.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.H, self.K)).transpose(1, 2)


class Block(gpt2.Block):
    """GPT-2's, which looks at the image in between."""

    def __init__(self, config: GPT2Config, layer: int):
        super().__init__(config, layer)
        self.crossattention = CrossAttention(config)
        self.ln_cross_attn = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None) -> Tensor:  # type: ignore[override]
        x_BTD = x_BTD + self.dropout(self.attn(self.ln_1(x_BTD), mask, cache, self.layer))
        x_BTD = x_BTD + self.dropout(self.crossattention(self.ln_cross_attn(x_BTD), memory, self.layer))
        return x_BTD + self.dropout(self.mlp(self.ln_2(x_BTD)))


class VisionEncoderDecoder(EncoderDecoder):
    """A model with random weights; `models.load` fills it from a checkpoint."""

    SOURCE = "image"
    EMBEDDING, FINAL_NORM = "decoder.transformer.wte", "decoder.transformer.ln_f"
    ENCODER_BLOCKS, BLOCKS = "encoder.encoder.layer", "decoder.transformer.h"

    def __init__(self, config: VisionEncoderDecoderConfig):
        super().__init__(config)
        seen, written = config.encoder, config.decoder
        self.encoder = vit.Trunk(seen)
        self.decoder = nn.ModuleDict({"transformer": gpt2.Trunk(written, Block)})
        self.enc_to_dec_proj = (
            nn.Linear(seen.hidden_size, written.n_embd) if seen.hidden_size != written.n_embd else None
        )
        self.finish()
        initialise(self, written.initializer_range)
        initialise(self.encoder, seen.initializer_range)
        self.decoder["transformer"].draw(written)  # type: ignore[operator]

    def source_positions(self, pixels_BCHW: Tensor) -> int:
        """S."""
        return self.encoder.context

    def encoded(self, pixels_BCHW: Tensor, mask_B11S: Tensor) -> Tensor:
        """The encoder with its last norm, in the decoder's width. Nothing is masked: images are of one size, and whole."""
        x_BSD = self.encoder(pixels_BCHW)
        return x_BSD if self.enc_to_dec_proj is None else self.enc_to_dec_proj(x_BSD)

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The residual stream after the decoder's last block."""
        return self.decoder["transformer"](target_BT, positions_BT, mask, memory, cache)


def config_from_hf(values: dict[str, Any]) -> VisionEncoderDecoderConfig:
    """Read the `config.json` of a Hugging Face folder."""
    seen, written = values["encoder"], values["decoder"]
    for name, half, known in (("encoder", seen, "vit"), ("decoder", written, "gpt2")):
        if half.get("model_type") != known:
            raise CheckpointError("unsupported", field=f"{name}.model_type", value=half.get("model_type"), hint=known)
    if not written.get("add_cross_attention"):
        raise CheckpointError("only true is supported", field="decoder.add_cross_attention", value=False)
    start = values.get("decoder_start_token_id", written.get("bos_token_id"))
    own = {"pad_token_id", "bos_token_id", "eos_token_id"}
    ids = {name: half[name] for half in (written, values) for name in own if half.get(name) is not None}
    encoder = vit.config_from_hf(seen).model_copy(update={"labels": ()})
    return VisionEncoderDecoderConfig(
        encoder=encoder,
        decoder=gpt2.config_from_hf(written),
        **ids,
        **({} if start is None else {"decoder_start_token_id": start}),
    )


def config_to_hf(config: VisionEncoderDecoderConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return {
        "architectures": ["VisionEncoderDecoderModel"],
        **config.model_dump(exclude={"encoder", "decoder"}),
        "encoder": vit.config_to_hf(config.encoder),
        "decoder": {**gpt2.config_to_hf(config.decoder), "is_decoder": True, "add_cross_attention": True},
        "is_encoder_decoder": True,
        "tie_word_embeddings": False,
    }


def from_hf_tensors(name: str, tensor: Tensor, config: VisionEncoderDecoderConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for the pooler and for stored causal masks."""
    half, _, rest = name.partition(".")
    if half != "decoder":
        return None if name.startswith("encoder.pooler.") else (name, tensor)
    found = gpt2.from_hf_tensors(rest, tensor, config.decoder)
    if found is None or rest.endswith((".crossattention.bias", ".crossattention.masked_bias")):
        return None
    return found if rest.startswith("lm_head.") else (f"decoder.{found[0]}", found[1])


def to_hf_tensors(name: str, tensor: Tensor, config: VisionEncoderDecoderConfig) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    if name.startswith("lm_head."):
        return f"decoder.{name}", tensor
    return gpt2.to_hf_tensors(name, tensor, config.decoder) if name.startswith("decoder.") else (name, tensor)


def build(config: VisionEncoderDecoderConfig) -> VisionEncoderDecoder:
    """A fresh model."""
    return VisionEncoderDecoder(config)
