"""A variational auto-encoder of sentences (Bowman et al. 2016): a GRU reads one into a Gaussian, another writes it from a sample.

The sample z gives the writer its first state and stands beside every word it reads. In training some of those words are replaced
by the unknown token ("word dropout", section 3.1), so that z has to carry what they said. `loss.variational` has the bound.

Shapes: B batch, T positions, D width, Z latent dimensions, V vocabulary.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cutaway.core.config import Config
from cutaway.loss.variational import reparameterise
from cutaway.models.token_ids import check_token_ids
from cutaway.models.vae import GaussianHead

MODEL_TYPES = ("text_vae",)


class TextVAEConfig(Config):
    """The shape of a model."""

    model_type: Literal["text_vae"] = "text_vae"
    vocab_size: int = Field(8192, gt=0)
    hidden_size: int = Field(256, gt=0, description="D")
    latent_size: int = Field(32, gt=0, description="Z")
    max_length: int = Field(256, gt=0, description="context, in tokens; a longer one runs too")
    word_dropout: float = Field(0.0, ge=0, le=1, description="share of the decoder's input replaced, in training")
    unk_token_id: int = Field(0, ge=0, description="what it is replaced by")
    decoder_start_token_id: int = Field(0, ge=0, description="what stands before a sentence's first token")
    tie_word_embeddings: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "TextVAEConfig":
        check_token_ids(self, "unk_token_id", "decoder_start_token_id")
        return self

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_length


class TextVAE(nn.Module):
    """A variational auto-encoder of sentences with random weights. The recurrent layers have torch's initialisation."""

    def __init__(self, config: TextVAEConfig):
        super().__init__()
        self.config, D, Z = config, config.hidden_size, config.latent_size
        self.embedding = nn.Embedding(config.vocab_size, D)
        self.encoder = nn.GRU(D, D, batch_first=True)
        self.head = GaussianHead(D, Z)
        self.first_state = nn.Linear(Z, D)
        self.decoder = nn.GRU(D + Z, D, batch_first=True)
        self.lm_head = nn.Linear(D, config.vocab_size, bias=False)
        self.tie()
        for weight in (self.embedding.weight, self.lm_head.weight):
            nn.init.normal_(weight, std=D**-0.5)

    def tie(self) -> None:
        """Share the embedding with the output head, where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.embedding.weight

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.config.context

    def encode(self, ids_BT: Tensor, *, mask_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | sentence), B × Z each.

        Args:
            mask_BT: true where a token is real, with any padding on the right; by default all are.
        """
        lengths_B = torch.full((len(ids_BT),), ids_BT.shape[1]) if mask_BT is None else mask_BT.sum(-1).cpu()
        packed = pack_padded_sequence(self.embedding(ids_BT), lengths_B, batch_first=True, enforce_sorted=False)
        states_BTD = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)[0]
        return self.head(states_BTD[torch.arange(len(ids_BT)), lengths_B - 1])

    def decode(self, z_BZ: Tensor, ids_BT: Tensor, *, state_BD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states after each token, B × T × D, and the last of them, with which a later call goes on.

        Args:
            ids_BT: what has been written so far, beginning with the start token.
            state_BD: what the call before gave; by default z says how to begin.
        """
        state_BD = torch.tanh(self.first_state(z_BZ)) if state_BD is None else state_BD
        x_BTD, z_BTZ = self.embedding(ids_BT), z_BZ[:, None].expand(-1, ids_BT.shape[1], -1)
        h_BTD, last_1BD = self.decoder(torch.cat([x_BTD, z_BTZ], -1), state_BD[None])
        return h_BTD, last_1BD[0]

    def logits(self, h: Tensor) -> Tensor:
        """The output head: … × D to … × V."""
        return self.lm_head(h)

    def forward(
        self,
        ids_BT: Tensor,
        target_BT: Tensor,
        *,
        mask_BT: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's hidden states from one sample of z, B × T × D, and the mean and log-variance it was drawn with.

        Args:
            ids_BT: the sentences that are encoded; `mask_BT` is theirs.
            target_BT: the same as the decoder reads them, beginning with the start token; in training some are dropped.
        """
        mean_BZ, logvar_BZ = self.encode(ids_BT, mask_BT=mask_BT)
        z_BZ = reparameterise(mean_BZ, logvar_BZ, generator)
        if self.training:
            target_BT = drop_words(target_BT, self.config.word_dropout, self.config.unk_token_id, generator)
        return self.decode(z_BZ, target_BT)[0], mean_BZ, logvar_BZ

    @torch.inference_mode()
    def write(self, z_BZ: Tensor, start_id: int, max_tokens: int) -> Tensor:
        """The likeliest next token again and again, B × max_tokens; `start_id` comes first and is not part of it."""
        last_B1, state_BD, written = torch.full((len(z_BZ), 1), start_id, device=z_BZ.device), None, []
        for _ in range(max_tokens):
            h_B1D, state_BD = self.decode(z_BZ, last_B1, state_BD=state_BD)
            last_B1 = self.logits(h_B1D).argmax(-1)
            written.append(last_B1)
        return torch.cat(written, 1)

    @torch.inference_mode()
    def sample(self, count: int, max_tokens: int, *, generator: torch.Generator | None = None) -> Tensor:
        """What is written for z drawn from the prior, count × max_tokens; a sentence ends where its end token stands."""
        weight = self.head.mean.weight
        z_BZ = torch.randn(count, len(weight), generator=generator, device=weight.device, dtype=weight.dtype)
        return self.write(z_BZ, self.config.decoder_start_token_id, max_tokens)


def drop_words(ids_BT: Tensor, share: float, unk_id: int, generator: torch.Generator | None = None) -> Tensor:
    """Each token but a row's first becomes `unk_id` with probability `share`."""
    dropped_BT = torch.rand(ids_BT.shape, generator=generator, device=ids_BT.device) < share
    dropped_BT[:, 0] = False
    return ids_BT.masked_fill(dropped_BT, unk_id)


def config_from_hf(values: dict[str, Any]) -> TextVAEConfig:
    """Read a `config.json`; there is no such family in transformers, so ours is the only writer."""
    return TextVAEConfig.model_validate({name: values[name] for name in TextVAEConfig.model_fields if name in values})


def config_to_hf(config: TextVAEConfig) -> dict[str, Any]:
    """What `config_from_hf` reads."""
    return {"architectures": ["TextVAE"], **config.model_dump()}


def build(config: TextVAEConfig) -> TextVAE:
    """A fresh model."""
    return TextVAE(config)
