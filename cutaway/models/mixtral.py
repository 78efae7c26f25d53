"""Mixtral (Jiang et al. 2024): the Llama decoder with experts in place of its feed-forward networks.

Modules are named like the Hugging Face checkpoint's tensors. N tokens, D model width.
"""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from cutaway.models.llama import Attention, Llama
from cutaway.models.llama_config import LlamaConfig, shape_from_hf, shape_to_hf
from cutaway.nn.cache import KVCache
from cutaway.nn.experts import ExpertLayer, RoutingConfig
from cutaway.nn.norm import RMSNorm

MODEL_TYPES = ("mixtral",)


class MixtralConfig(LlamaConfig, RoutingConfig):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["mixtral"] = "mixtral"  # type: ignore[assignment]
    num_local_experts: int = Field(8, gt=0)
    num_experts_per_tok: int = Field(2, gt=0)
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def _enough_experts(self) -> "MixtralConfig":
        if self.num_experts_per_tok > self.num_local_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is more than num_local_experts {self.num_local_experts}"
            )
        return self


class Expert(nn.Module):
    """w2(silu(w1 x) · w3 x)."""

    def __init__(self, config: MixtralConfig):
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.w1, self.w3 = nn.Linear(D, F, bias=False), nn.Linear(D, F, bias=False)
        self.w2 = nn.Linear(F, D, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.w2(functional.silu(self.w1(x_ND)) * self.w3(x_ND))


class Experts(ExpertLayer):
    """The router and its experts."""

    def __init__(self, config: MixtralConfig):
        super().__init__(config, config.num_local_experts)
        self.k = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.num_local_experts))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.routed(x_BTD.flatten(0, -2), normalise=True).view_as(x_BTD)


class Block(nn.Module):
    def __init__(self, config: MixtralConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.block_sparse_moe = Experts(config)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, ...], mask: Tensor | None, cache: KVCache | None = None
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, mask, cache, self.layer)
        return x_BTD + self.block_sparse_moe(self.post_attention_layernorm(x_BTD))


class Mixtral(Llama):
    """A Mixtral-style decoder with random weights; `models.load` fills it from a checkpoint."""

    def block(self, layer: int) -> nn.Module:
        """One layer, new."""
        return Block(self.config, layer)


def config_from_hf(values: dict[str, Any]) -> MixtralConfig:
    """Read the `config.json` of a Hugging Face folder."""
    own = MixtralConfig.model_fields.keys() - LlamaConfig.model_fields.keys()
    known = {name: values[name] for name in own if name in values}
    return MixtralConfig.model_validate({**shape_from_hf(values), **known})


def config_to_hf(config: MixtralConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return shape_to_hf(config)


def build(config: MixtralConfig) -> Mixtral:
    """A fresh model."""
    return Mixtral(config)
