"""How well a model predicts a text: loss per token, perplexity, bits per byte.

A text longer than the window is read in windows that overlap, and every token is scored once, in the first window that holds
it; after the first window, each has at least `window − stride` tokens before it (Press et al. 2021, section 2, "sliding
window"). Special tokens are read and not scored: they stand for no bytes of the text.

Shapes: B windows, T positions, N scored positions, D model width, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import NothingSupervisedError
from cutaway.data.batch import Batch
from cutaway.data.examples import Example
from cutaway.data.pack import collate
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.decoder import check_decoder
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.objectives import document_mask

_CHUNK = 256  # positions whose logits are held at a time


class PerplexityConfig(Config):
    """How a text is cut into windows."""

    window: int = Field(512, ge=2, description="tokens the model sees at once; at most its context")
    stride: int = Field(256, ge=1, description="tokens between the beginnings of windows; at most `window`")
    rows: int = Field(4, ge=1, description="windows at once; it changes the speed and no score")

    @model_validator(mode="after")
    def _every_token(self) -> "PerplexityConfig":
        if self.stride > self.window:
            raise ValueError(f"a stride of {self.stride} leaves out tokens between windows of {self.window}")
        return self


@dataclass(frozen=True)
class Perplexity:
    """What a model made of a text.

    Args:
        tokens: tokens scored.
        bytes: UTF-8 bytes they stand for.
        nats: summed negative log-probability.
    """

    tokens: int
    bytes: int
    nats: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """e to the loss; compares models of one tokeniser."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text; compares models of any tokenisers."""
        return self.nats / math.log(2) / self.bytes


def perplexity(
    model: Any, tokenizer: Tokenizer, examples: Iterable[Example], config: PerplexityConfig = PerplexityConfig()
) -> Perplexity:
    """Score the learned tokens of `examples`: all of a document, the replies of a conversation.

    The first token of an example that begins without BOS has nothing before it and is not scored.

    Raises:
        ConfigError: the model is no decoder.
        NothingSupervisedError: there is nothing to score.
    """
    check_decoder(model)
    window, stride = min(config.window, model.context), min(config.stride, model.context)
    special = np.array(sorted(tokenizer.special.values()), dtype=np.int64)
    tokens, n_bytes, nats = 0, 0, 0.0
    pieces = (
        piece
        for example in examples
        for piece in windows(Example(example.ids, example.learned & ~np.isin(example.ids, special)), window, stride)
        if piece.learned[1:].any()
    )
    while group := list(islice(pieces, config.rows)):
        width = max(len(piece.ids) for piece in group) - 1
        losses_N = token_losses(model, collate([[(piece.ids, piece.learned)] for piece in group], width, pad_id=0))
        tokens, nats = tokens + len(losses_N), nats + float(losses_N.double().sum())
        n_bytes += sum(len(tokenizer.token_bytes(int(id))) for p in group for id in p.ids[1:][p.learned[1:]])
    if not tokens:
        raise NothingSupervisedError("holds no token to score", field="text")
    return Perplexity(tokens, n_bytes, nats)


def windows(example: Example, window: int, stride: int) -> Iterator[Example]:
    """Windows of `window` positions; the tokens that an earlier one predicted are only read.

    >>> example = Example(np.arange(7), np.ones(7, bool))
    >>> [(w.ids.tolist(), w.ids[w.learned].tolist()) for w in windows(example, 4, 2)]
    [([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]), ([2, 3, 4, 5, 6], [5, 6])]
    """
    seen, length = 0, len(example.ids)
    for start in range(0, max(length - 1, 0), stride):
        stop = min(start + window + 1, length)
        ids, learned = example.ids[start:stop], example.learned[start:stop].copy()
        learned[: seen - start] = False
        yield Example(ids, learned)
        seen = stop
        if stop == length:
            return


@torch.inference_mode()
def token_losses(model: Any, batch: Batch) -> Tensor:
    """The negative log-probability (nats, float32, N) of every supervised token, row after row."""
    batch = batch.to(model.embedding.weight.device)
    h_BTD = model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=document_mask(batch.segments_BT))
    scored = batch.targets_BT != IGNORED
    parts = zip(h_BTD[scored].split(_CHUNK), batch.targets_BT[scored].split(_CHUNK), strict=True)
    return torch.cat([_losses(model.logits(h_ND).float(), targets_N) for h_ND, targets_N in parts]).cpu()


def _losses(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    return logits_NV.logsumexp(-1) - logits_NV.gather(-1, targets_N[:, None])[:, 0]
