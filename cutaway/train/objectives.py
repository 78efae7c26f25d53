"""Objectives: what the loop minimises. Each is `loss_fn(model, batch) -> (loss_sum, n_targets, metrics)`.

Shapes: B batch, T positions, S key positions, N supervised positions, D model width, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.data.batch import Batch
from cutaway.data.pairs import PairBatch
from cutaway.data.sentence_pairs import SentencePairBatch
from cutaway.loss.language_modelling import IGNORED, cross_entropy, linear_cross_entropy
from cutaway.nn.adaptive_softmax import AdaptiveSoftmax
from cutaway.nn.experts import balance_loss, expert_layers
from cutaway.nn.masks import same_segment, segment_mask

Metrics = dict[str, Tensor | float]
Objective = Callable[[Any, Any], tuple[Tensor, int, Metrics]]
"""(model, batch) → the loss summed over supervised tokens, how many there are, and numbers worth a line in the log."""

_CHUNK = 512  # positions whose logits are held at a time, where the head is more than one matrix


class LossConfig(Config):
    """Terms of the language-modelling loss; see `loss.language_modelling`."""

    z_loss: float = Field(0.0, ge=0, description="weight of (log Σ exp logits)²; PaLM used 1e-4")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance: float = Field(0.01, ge=0, description="weight of the load-balancing loss, for models with experts")


PLAIN = LossConfig(balance=0.0)
"""Cross-entropy and nothing else, for evaluation."""


def causal_lm(model: Any, batch: Batch, config: LossConfig = PLAIN) -> tuple[Tensor, int, Metrics]:
    """Next-token prediction."""
    h_BTD = model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=document_mask(batch.segments_BT))
    return token_loss(model, h_BTD, batch.targets_BT, config, batch.segments_BT != 0)


def masked_lm(model: Any, batch: Batch, config: LossConfig = PLAIN) -> tuple[Tensor, int, Metrics]:
    """The tokens behind the masks, from both sides; on an encoder, or on a decoder without its causal mask."""
    h_BTD = model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=same_segment(batch.segments_BT))
    return token_loss(model, h_BTD, batch.targets_BT, config, batch.segments_BT != 0)


def masked_lm_with_pairs(
    model: Any, batch: SentencePairBatch, config: LossConfig = PLAIN, weight: float = 1.0
) -> tuple[Tensor, int, Metrics]:
    """The tokens behind the masks, and whether the second sentence follows; a pair counts as `weight` tokens."""
    h_BTD = model(batch.ids_BT, mask_BTS=batch.real_BT[:, None], types_BT=batch.types_BT)
    loss, n, metrics = token_loss(model, h_BTD, batch.targets_BT, config)
    scores_B2 = model.pair_logits(h_BTD).float()
    pairs = torch.nn.functional.cross_entropy(scores_B2, batch.relation_B, reduction="sum")
    right = (scores_B2.argmax(-1) == batch.relation_B).float().mean()
    found = {"words": loss.detach() / max(n, 1), "pairs": pairs.detach() / len(scores_B2), "pairs_right": right}
    return loss + weight * pairs, n, {**metrics, **found}


def seq2seq_lm(model: Any, batch: PairBatch, config: LossConfig = PLAIN) -> tuple[Tensor, int, Metrics]:
    """The target's next token, given the source."""
    memory_BSD = model.encode(batch.source_BS, mask_BS=batch.real_BS)
    h_BTD = model(batch.target_BT, memory_BSD, memory_mask_BS=batch.real_BS)
    return token_loss(model, h_BTD, batch.targets_BT, config)


def token_loss(
    model: Any, h_BTD: Tensor, targets_BT: Tensor, config: LossConfig, real_BT: Tensor | None = None
) -> tuple[Tensor, int, Metrics]:
    """Cross-entropy of the targets. Only supervised positions go through the output head, and never all at once.

    Args:
        real_BT: true where a token is no padding, for the balance of experts; None: all are.

    Raises:
        ConfigError: an adaptive head, and a term of the loss that it does not have.
    """
    supervised = targets_BT != IGNORED
    h_ND, targets_N = h_BTD[supervised], targets_BT[supervised]
    head, options = model.output, config.model_dump(exclude={"balance"})
    if type(head) is nn.Linear:
        loss = linear_cross_entropy(model.to_output(h_ND), head.weight, head.bias, targets_N, **options)
    elif isinstance(head, AdaptiveSoftmax):
        if any(options.values()):
            raise ConfigError("the loss of an adaptive head has no such terms", field="loss", value=options, hint="0")
        loss = head.loss(model.to_output(h_ND), targets_N)
    else:  # an adapted head is a module of its own: logits chunk by chunk, made again in the backward pass
        loss = h_ND.new_zeros((), dtype=torch.float32)
        for h_CD, targets_C in zip(h_ND.split(_CHUNK), targets_N.split(_CHUNK), strict=True):
            loss = loss + checkpoint(partial(_head_loss, model, options), h_CD, targets_C, use_reentrant=False)
    metrics: Metrics = {"supervised": targets_N.numel() / supervised.numel()}
    routings = [layer.routing for layer in expert_layers(model).values() if layer.routing]
    if config.balance and routings:
        real_N = None if real_BT is None else real_BT.flatten()
        balance = torch.stack([balance_loss(routing, real_N) for routing in routings]).mean()
        loss = loss + config.balance * targets_N.numel() * balance
        metrics["balance"] = balance.detach()
    if kept := [routing.kept_NK.float().mean() for routing in routings if routing.kept_NK is not None]:
        metrics["dropped"] = 1 - torch.stack(kept).mean()
    return loss, targets_N.numel(), metrics


def document_mask(segments_BT: Tensor) -> Tensor | None:
    """The mask of packed rows, B × 1 × T × T, or None where plain causality says the same and is faster.

    That is where no document follows another in its row: padding (segment 0) after the only one is seen by nothing that counts.
    """
    begins = (segments_BT[:, 1:] != segments_BT[:, :-1]) & (segments_BT[:, 1:] != 0)
    return segment_mask(segments_BT) if bool(begins.any()) else None


def _head_loss(model: Any, options: dict[str, float], h_CD: Tensor, targets_C: Tensor) -> Tensor:
    return cross_entropy(model.logits(h_CD), targets_C, **options)
