"""Contrastive learning: an encoder whose vectors of texts that belong together are near.

Every anchor is compared with the positives, and the hard negatives, of its whole micro-batch; so, unlike elsewhere, the loss
depends on `data.rows`, and micro-batches do not add up to a larger one.
"""

from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.progress import step
from cutaway.data.contrast import ContrastBatch, ContrastConfig, open_contrast
from cutaway.loss.contrastive import info_nce
from cutaway.models.bert_heads import with_head
from cutaway.models.packaged import SENTENCE_ENCODER
from cutaway.nn.pooling import mean_pool
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import Metrics
from cutaway.train.origin import load_encoder
from cutaway.train.recipe import Job, RunConfig, carry_out
from cutaway.train.run import check_length


class ContrastOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(2e-5, gt=0, description="peak learning rate")


class ContrastLoss(Config):
    """Terms of the loss."""

    temperature: float = Field(0.05, gt=0)
    two_sided: bool = Field(False, description="also the anchor among all anchors, for each positive")


class ContrastRunConfig(RunConfig):
    """Everything a contrastive run is made of."""

    data: ContrastConfig
    start: str = Field(SENTENCE_ENCODER, description="an encoder: a folder or a packaged name")
    loss: ContrastLoss = ContrastLoss()
    optim: ContrastOptim = ContrastOptim()


def contrast(config: ContrastRunConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the encoder is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        loaded = load_encoder(config.start, device)
        model = with_head(loaded.model, "none").to(device)
        check_length(config.data, model)
        with step("reading the data"):
            corpus = open_contrast(config.data, loaded.tokenizer, config.seed)
        objective = partial(contrastive, config=config.loss)

        def evaluate() -> float:
            return held_out_loss(model, objective, corpus.held_out.once(), precision)

        sizes = {"train": len(corpus.train.rows), "held_out": len(corpus.held_out.rows)}
        return Job(
            model,
            corpus.train,
            objective,
            FullWeights(model, loaded.tokenizer),
            {"held_out": evaluate},
            (3 if corpus.train.rows[0].negative else 2) * config.data.rows * config.data.seq_len,
            {"rows": sizes},
        )

    return carry_out(config, prepare)


def contrastive(model: Any, batch: ContrastBatch, config: ContrastLoss = ContrastLoss()) -> tuple[Tensor, int, Metrics]:
    """The own positive against those of the other rows; the temperature is fixed."""

    def vectors(ids_BT: Tensor, real_BT: Tensor) -> Tensor:
        return mean_pool(model(ids_BT, mask_BTS=real_BT[:, None]), real_BT)

    a_BD, b_BD = vectors(batch.anchor_BT, batch.anchor_real_BT), vectors(batch.positive_BT, batch.positive_real_BT)
    negatives_BD = vectors(batch.negative_BT, batch.negative_real_BT) if batch.negative_BT.shape[1] else None
    loss, nearest = info_nce(a_BD, b_BD, config.temperature, negatives_BD, config.two_sided)
    return loss, len(a_BD), {"nearest": nearest.detach()}
