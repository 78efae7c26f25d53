"""BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019): post-norm encoders that see both sides.

Modules are named like the Hugging Face checkpoint's tensors. A plain encoder is `Bert`; with a head for a task it is one of the
classes of `bert_heads`. B batch, T positions, S key positions, D model width, H heads, K head width.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.models.decoder import initialise
from cutaway.nn.attention import Attend

Head = Literal["none", "masked", "pretraining", "sequence", "tokens"]


class BertConfig(Config):
    """The shape of a model; field names are those of `config.json`."""

    model_type: Literal["bert", "roberta"] = "bert"
    head: Head = Field("none", description="masked: words; pretraining: words and pairs; sequence, tokens: labels")
    labels: tuple[str, ...] = Field(("0", "1"), description="of the heads sequence and tokens")
    vocab_size: int = Field(30522, gt=0)
    hidden_size: int = Field(768, gt=0)
    num_hidden_layers: int = Field(12, gt=0)
    num_attention_heads: int = Field(12, gt=0)
    intermediate_size: int = Field(3072, gt=0)
    max_position_embeddings: int = Field(512, gt=0)
    type_vocab_size: int = Field(2, gt=0)
    pad_token_id: int = Field(0, ge=0)
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout_prob: float = Field(
        0.0, ge=0, lt=1, description="on the embeddings and on what sub-layers add, in training"
    )
    tie_word_embeddings: bool = Field(True, description="the head `masked` shares the word embeddings")
    attention: str = Field("sdpa", description="backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _whole_heads(self) -> "BertConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.context < 1:
            raise ValueError(f"max_position_embeddings {self.max_position_embeddings} leaves no position")
        return self

    @property
    def first_position(self) -> int:
        """The row of the position table that the first token takes; RoBERTa's rows before it are never used."""
        return self.pad_token_id + 1 if self.model_type == "roberta" else 0

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_position_embeddings - self.first_position

    @property
    def has_pooler(self) -> bool:
        """Whether the encoder ends in BERT's layer on the first token."""
        return self.model_type == "bert" and self.head in ("pretraining", "sequence")


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.first_position = config.first_position
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids_BT: Tensor, types_BT: Tensor, positions_BT: Tensor | None) -> Tensor:
        if positions_BT is None:
            positions_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        places = self.position_embeddings(positions_BT + self.first_position)
        x_BTD = self.word_embeddings(ids_BT) + self.token_type_embeddings(types_BT) + places
        return self.dropout(self.LayerNorm(x_BTD))


class SelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        D = config.hidden_size
        self.H, self.K = config.num_attention_heads, D // config.num_attention_heads
        self.query, self.key, self.value = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.attend = Attend(self.K**-0.5, config.attention)

    def forward(self, x_BTD: Tensor, mask: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        q, k, v = (
            part(x_BTD).view(B, T, self.H, self.K).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.attend(q, k, v, mask).transpose(1, 2).flatten(2)


class AddNorm(nn.Module):
    """Project, add what came in, normalise: the post-norm sub-layer ending."""

    def __init__(self, width: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: Tensor, x_BTD: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(inner)) + x_BTD)


class Block(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddNorm(config.hidden_size, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = AddNorm(config.intermediate_size, config)

    def forward(self, x_BTD: Tensor, mask: Tensor) -> Tensor:
        x_BTD = self.attention["output"](self.attention["self"](x_BTD, mask), x_BTD)
        return self.output(functional.gelu(self.intermediate["dense"](x_BTD)), x_BTD)


class Bert(nn.Module):
    """A BERT or RoBERTa encoder with random weights; `models.load` fills it from a checkpoint."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))})
        if config.has_pooler:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})
        initialise(self, config.initializer_range)

    def tie(self) -> None:
        """Nothing is shared."""

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.embeddings.word_embeddings

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.config.context

    def forward(
        self,
        ids_BT: Tensor,
        *,
        mask_BTS: Tensor | None = None,
        types_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states, B × T × D.

        Args:
            mask_BTS: true where a position may attend (`nn.masks.padding_mask` makes it from lengths; broadcasts to
                B × H × T × S with a head axis, or B × T × S); everywhere by default.
            types_BT: 0 for the first and 1 for the second sentence; all 0 by default.
            positions_BT: where each token stands, counted from 0, which is the default.
        """
        if mask_BTS is None:
            mask_BTS = torch.ones(1, 1, 1, ids_BT.shape[1], dtype=torch.bool, device=ids_BT.device)
        elif mask_BTS.dim() == 3:
            mask_BTS = mask_BTS[:, None]
        x_BTD = self.embeddings(ids_BT, torch.zeros_like(ids_BT) if types_BT is None else types_BT, positions_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BTS)
        return x_BTD

    def pooled(self, h_BTD: Tensor) -> Tensor:
        """The first token through BERT's pooler, B × D."""
        return self.pooler["dense"](h_BTD[:, 0]).tanh()
