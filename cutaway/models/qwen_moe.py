"""Qwen2-MoE and Qwen3-MoE: the Llama decoder with many small experts, in Qwen2 beside one that every token passes.

Modules are named like the Hugging Face checkpoint's tensors. N tokens, D model width.
"""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.models.llama import Block, Llama
from cutaway.models.llama_config import LlamaConfig, shape_from_hf, shape_to_hf
from cutaway.nn.experts import ExpertLayer, RoutingConfig
from cutaway.nn.feedforward import GatedFeedForward

MODEL_TYPES = ("qwen2_moe", "qwen3_moe")


class QwenMoeConfig(LlamaConfig, RoutingConfig):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["qwen2_moe", "qwen3_moe"] = "qwen3_moe"  # type: ignore[assignment]
    num_experts: int = Field(8, gt=0)
    num_experts_per_tok: int = Field(2, gt=0)
    moe_intermediate_size: int = Field(
        256, gt=0, description="width of one expert; intermediate_size: of a dense layer"
    )
    shared_expert_intermediate_size: int = Field(0, ge=0, description="of the expert that all tokens pass; 0: none")
    norm_topk_prob: bool = Field(True, description="the weights of a token's experts sum to one")
    decoder_sparse_step: int = Field(1, gt=0, description="every so many layers has experts, the others are dense")
    mlp_only_layers: tuple[int, ...] = Field((), description="layers that are dense in any case")
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def _enough_experts(self) -> "QwenMoeConfig":
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is more than num_experts {self.num_experts}"
            )
        return self

    def has_experts(self, layer: int) -> bool:
        """Whether a layer's feed-forward part is one of experts."""
        return layer not in self.mlp_only_layers and (layer + 1) % self.decoder_sparse_step == 0


class Experts(ExpertLayer):
    """The router, its experts, and the shared one."""

    def __init__(self, config: QwenMoeConfig):
        super().__init__(config, config.num_experts)
        D, shared = config.hidden_size, config.shared_expert_intermediate_size
        self.k, self.normalise = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(D, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            GatedFeedForward(D, config.moe_intermediate_size) for _ in range(config.num_experts)
        )
        self.shared_expert = GatedFeedForward(D, shared) if shared else None
        self.shared_expert_gate = nn.Linear(D, 1, bias=False) if shared else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        y_ND = self.routed(x_ND, self.normalise)
        if self.shared_expert is not None and self.shared_expert_gate is not None:
            y_ND = y_ND + self.shared_expert_gate(x_ND).sigmoid() * self.shared_expert(x_ND)
        return y_ND.view_as(x_BTD)


class QwenMoe(Llama):
    """A Qwen-MoE-style decoder with random weights; `models.load` fills it from a checkpoint."""

    def block(self, layer: int) -> nn.Module:
        """One layer, new."""
        return Block(self.config, layer, Experts(self.config) if self.config.has_experts(layer) else None)


def config_from_hf(values: dict[str, Any]) -> QwenMoeConfig:
    """Read the `config.json` of a Hugging Face folder. Newer files of Qwen3 say num_local_experts."""
    own = QwenMoeConfig.model_fields.keys() - LlamaConfig.model_fields.keys()
    known = {name: values[name] for name in own if values.get(name) is not None}
    experts = values.get("num_experts") or values["num_local_experts"]
    shape = {"norm_topk_prob": False, **shape_from_hf(values), **known, "num_experts": experts}
    return QwenMoeConfig.model_validate(shape)


def config_to_hf(config: QwenMoeConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    return shape_to_hf(config)


def build(config: QwenMoeConfig) -> QwenMoe:
    """A fresh model."""
    return QwenMoe(config)
