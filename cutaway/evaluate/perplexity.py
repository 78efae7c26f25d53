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
    tokens, n_bytes, nats = 0, 0, 0.0
    for batch, size in scored(tokenizer, examples, model.context, config):
        losses_N = token_losses(model, batch)
        tokens, n_bytes, nats = tokens + len(losses_N), n_bytes + size, nats + float(losses_N.double().sum())
    return Perplexity(tokens, n_bytes, nats)


def scored(
    tokenizer: Tokenizer, examples: Iterable[Example], context: int, config: PerplexityConfig
) -> Iterator[tuple[Batch, int]]:
    """Windows in batches, in which every learned token is supervised once, and the bytes that these stand for.

    Raises:
        NothingSupervisedError: there is nothing to score.
    """
    window, stride = min(config.window, context), min(config.stride, context)
    special = np.array(sorted(tokenizer.special.values()), dtype=np.int64)
    pieces = (
        piece
        for example in examples
        for piece in windows(Example(example.ids, example.learned & ~np.isin(example.ids, special)), window, stride)
        if piece.learned[1:].any()
    )
    found = False
    while group := list(islice(pieces, config.rows)):
        found, width = True, max(len(piece.ids) for piece in group) - 1
        size = sum(len(tokenizer.token_bytes(int(id))) for p in group for id in p.ids[1:][p.learned[1:]])
        yield collate([[(piece.ids, piece.learned)] for piece in group], width, pad_id=0), size
    if not found:
        raise NothingSupervisedError("holds no token to score", field="text")


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
    return torch.cat([_losses(logits_NV, targets_N) for logits_NV, targets_N in token_logits(model, batch)]).cpu()


def token_logits(model: Any, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits (float32, N × V) that predict every supervised token, and these tokens (N), some at a time."""
    batch = batch.to(model.embedding.weight.device)
    h_BTD = model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=document_mask(batch.segments_BT))
    supervised = batch.targets_BT != IGNORED
    for h_ND, targets_N in zip(
        h_BTD[supervised].split(_CHUNK), batch.targets_BT[supervised].split(_CHUNK), strict=True
    ):
        yield model.logits(h_ND).float(), targets_N


def _losses(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    return logits_NV.logsumexp(-1) - logits_NV.gather(-1, targets_N[:, None])[:, 0]
