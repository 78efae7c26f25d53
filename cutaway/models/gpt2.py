"""GPT-2 (Radford et al. 2019): pre-norm decoder with LayerNorm, learned positions, biases and GELU.

Modules are named like the Hugging Face checkpoint's tensors. That checkpoint stores projections transposed (`Conv1D`); here they
are ordinary `nn.Linear`s, and `from_hf_tensors` / `to_hf_tensors` turn them.

Shapes: B batch, T positions, S key positions, D model width, H heads, K head width, V vocabulary.
"""

import math
import re
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError
from cutaway.models.decoder import Decoder, initialise
from cutaway.nn.activation import gelu_tanh
from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache

MODEL_TYPES = ("gpt2",)
_TRANSPOSED = re.compile(r"\.(c_attn|q_attn|c_proj|c_fc)\.weight$")


class GPT2Config(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["gpt2"] = "gpt2"
    vocab_size: int = Field(50257, gt=0)
    n_positions: int = Field(1024, gt=0, description="context, in tokens")
    n_embd: int = Field(768, gt=0)
    n_layer: int = Field(12, gt=0)
    n_head: int = Field(12, gt=0)
    n_inner: int | None = Field(None, gt=0, description="feed-forward width; None: 4 · n_embd")
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    embd_pdrop: float = Field(0.0, ge=0, lt=1, description="dropout on the embeddings, in training")
    resid_pdrop: float = Field(0.0, ge=0, lt=1, description="dropout on what each sub-layer adds, in training")
    tie_word_embeddings: bool = True
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _whole_heads(self) -> "GPT2Config":
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.n_embd

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.n_positions

    @property
    def kv_heads(self) -> int:
        """G; every query head has its own."""
        return self.n_head

    @property
    def kv_width(self) -> int:
        """K."""
        return self.n_embd // self.n_head


class Attention(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.H, self.K = config.n_head, config.n_embd // config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attend = Attend(self.K**-0.5, config.attention)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        B, T, _ = x_BTD.shape
        q, k, v = (part.view(B, T, self.H, self.K).transpose(1, 2) for part in self.c_attn(x_BTD).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.write(layer, k, v)
        return self.c_proj(self.attend(q, k, v, mask).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = nn.Linear(config.n_embd, inner)
        self.c_proj = nn.Linear(inner, config.n_embd)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.c_proj(gelu_tanh(self.c_fc(x_BTD)))


class Block(nn.Module):
    def __init__(self, config: GPT2Config, layer: int):
        super().__init__()
        self.layer = layer
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.attn(self.ln_1(x_BTD), mask, cache, self.layer))
        return x_BTD + self.dropout(self.mlp(self.ln_2(x_BTD)))


class Trunk(nn.Module):
    """The embeddings, the blocks (other ones, where a model that is built on this has its own) and the last norm."""

    def __init__(self, config: GPT2Config, block: type[nn.Module] = Block):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def forward(self, ids_BT: Tensor, positions_BT: Tensor, *given: Any) -> Tensor:
        """The residual stream after the last block, before the norm; `given` goes to every block."""
        x_BTD = self.drop(self.wte(ids_BT) + self.wpe(positions_BT))
        for block in self.h:
            x_BTD = block(x_BTD, *given)
        return x_BTD

    def draw(self, config: GPT2Config) -> None:
        """Random weights; those of what enters the residual stream are scaled by its depth (section 2.3)."""
        initialise(self, config.initializer_range)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(weight, std=config.initializer_range / math.sqrt(2 * config.n_layer))


class GPT2(Decoder):
    """A GPT-2-style decoder with random weights; `models.load` fills it from a checkpoint."""

    EMBEDDING, BLOCKS, FINAL_NORM = "transformer.wte", "transformer.h", "transformer.ln_f"

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = Trunk(config)
        self.finish()
        self.transformer.draw(config)

    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The residual stream after the last block."""
        return self.transformer(ids_BT, positions_BT, mask, cache)


def config_from_hf(values: dict[str, Any]) -> GPT2Config:
    """Read the `config.json` of a Hugging Face folder."""
    if values.get("activation_function", "gelu_new") != "gelu_new":
        raise CheckpointError(
            "only gelu_new is supported", field="activation_function", value=values["activation_function"]
        )
    for name, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if values.get(name, usual) is not usual:
            raise CheckpointError(f"only {str(usual).lower()} is supported", field=name, value=values[name])
    known = {
        name: values[name] for name in GPT2Config.model_fields if values.get(name) is not None and name != "attention"
    }
    return GPT2Config.model_validate(known)


def config_to_hf(config: GPT2Config) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    values = config.model_dump(exclude={"attention"})
    return {"architectures": ["GPT2LMHeadModel"], **values, "activation_function": "gelu_new"}


def from_hf_tensors(name: str, tensor: Tensor, config: GPT2Config) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for the stored causal masks. The original release has no prefix."""
    name = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    return name, tensor.T if _TRANSPOSED.search(name) else tensor


def to_hf_tensors(name: str, tensor: Tensor, config: GPT2Config) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    return name, tensor.T if _TRANSPOSED.search(name) else tensor


def build(config: GPT2Config) -> GPT2:
    """A fresh model."""
    return GPT2(config)
