"""Contrastive learning: vectors that are near where what they stand for belongs together.

Texts with texts in one encoder, or images with texts in the two towers of a CLIP; what the rows hold decides which. Every row
is compared with the partners, and the hard negatives, of its whole micro-batch; so, unlike elsewhere, the loss depends on
`data.rows`, and micro-batches do not add up to a larger one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.captioned import CaptionedBatch, open_captioned
from cutaway.data.contrast import ContrastBatch, ContrastConfig, open_contrast, read_triples
from cutaway.data.described import medium_of, read_sides
from cutaway.data.preprocess import Medium
from cutaway.data.rows import RowCorpus
from cutaway.loss.contrastive import info_nce
from cutaway.models.bert_heads import with_head
from cutaway.models.clip import CLIP, OLD_EOS
from cutaway.models.packaged import SENTENCE_ENCODER
from cutaway.nn.pooling import mean_pool
from cutaway.optim.adamw import OptimConfig
from cutaway.text.framing import lacking
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import on_held_out
from cutaway.train.objectives import Metrics, Objective
from cutaway.train.origin import OriginConfig, begin, check_encoder, media_of
from cutaway.train.recipe import Job, carry_out


class ContrastOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(2e-5, gt=0, description="peak learning rate")


class ContrastLoss(Config):
    """Terms of the loss of texts; CLIP's is two-sided, and it learns its temperature."""

    temperature: float = Field(0.05, gt=0)
    two_sided: bool = Field(False, description="also the anchor among all anchors, for each positive")


class ContrastRunConfig(OriginConfig):
    """Everything a contrastive run is made of."""

    data: ContrastConfig
    start: str | None = Field(
        SENTENCE_ENCODER,
        description="an encoder of texts or, for images, a CLIP: a folder or a packaged name; null: `model`",
    )
    model: dict[str, Any] = Field(
        {"model_type": "bert"}, description="with start=null: family and shape; bert or roberta, clip for images"
    )
    loss: ContrastLoss = ContrastLoss()
    optim: ContrastOptim = ContrastOptim()


Begun = tuple[FullWeights, RowCorpus[Any, Any], Objective, int]
"""The model with its files, what it learns from and by, and positions of a row at most."""


def contrast(config: ContrastRunConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the encoder is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        medium = medium_of(config.data.path, config.data.encoding)
        begun = _texts(config, device) if medium is None else _images(config, medium, device)
        files, corpus, objective, length = begun
        return Job(
            files.model,
            corpus.train,
            objective,
            files,
            {"held_out": on_held_out(files.model, objective, corpus.held_out, precision)},
            config.data.rows * length,
            {
                "rows": {"train": len(corpus.train.rows), "held_out": len(corpus.held_out.rows)},
                "skipped": corpus.skipped,
            },
        )

    return carry_out(config, prepare)


def _texts(config: ContrastRunConfig, device: torch.device) -> Begun:
    with step("reading the data"):
        triples = read_triples(config.data.path, config.data)
    texts = (text for triple in triples for text in triple if text)
    encoder, tokenizer = begin(config, config.data, texts, check_encoder, device, lacking(config.train_tokenizer))
    model = with_head(encoder, "none").to(device)
    corpus = open_contrast(config.data, triples, tokenizer, config.seed)
    length = (3 if corpus.train.rows[0].negative else 2) * config.data.seq_len
    return FullWeights(model, tokenizer), corpus, partial(contrastive, config=config.loss), length


def _images(config: ContrastRunConfig, medium: Medium, device: torch.device) -> Begun:
    data = config.data
    with step("reading the data"):
        rows, held = read_sides(data.path, data.held_out, medium, "text", data.encoding)
    model, tokenizer = begin(config, data, (row.said for row in rows), partial(_check_family, medium), device)
    if tokenizer.eos_id == model.config.text_config.eos_token_id == OLD_EOS:
        raise ConfigError(
            "ends texts with an id by which CLIP checkpoints mean the highest of a text",
            field="tokenizer",
            value=OLD_EOS,
            hint="a tokeniser whose end token has another id",
        )
    media = media_of(config, data, medium, model)
    positions = model.vision_model.context
    corpus = open_captioned(data, rows, held, media, positions, tokenizer, config.seed)
    files = FullWeights(model, tokenizer, beside=media.beside)
    return files, corpus, image_text, positions + data.seq_len


def contrastive(model: Any, batch: ContrastBatch, config: ContrastLoss = ContrastLoss()) -> tuple[Tensor, int, Metrics]:
    """The own positive against those of the other rows, but for what is said of the same text; the temperature is fixed."""

    texts = [(batch.anchor_BT, batch.anchor_real_BT), (batch.positive_BT, batch.positive_real_BT)]
    if batch.negative_BT.shape[1]:
        texts.append((batch.negative_BT, batch.negative_real_BT))
    a_BD, b_BD, *negatives = [mean_pool(model(ids_BT, mask_BTS=real[:, None]), real) for ids_BT, real in texts]
    anchors_B, *candidates = numbered(texts)
    alike_BC = candidates[0][:, None] == torch.cat(candidates)
    alike_BC[:, : len(a_BD)] |= anchors_B[:, None] == anchors_B
    negatives_BD = negatives[0] if negatives else None
    loss, nearest = info_nce(a_BD, b_BD, config.temperature, negatives_BD, config.two_sided, alike_BC)
    return loss, len(a_BD), {"nearest": nearest.detach()}


def numbered(texts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """Padded texts, and where they are real, as numbers: the same for the same text."""
    width = max(ids_BT.shape[1] for ids_BT, _ in texts)
    rows = [pad(ids_BT.masked_fill(~real, -1), (0, width - ids_BT.shape[1]), value=-1) for ids_BT, real in texts]
    numbers = torch.unique(torch.cat(rows), dim=0, return_inverse=True)[1]
    return numbers.split([len(some) for some in rows])


def image_text(model: Any, batch: CaptionedBatch) -> tuple[Tensor, int, Metrics]:
    """Each image's own text against the others', and each text's own image, but for like texts; the temperature is learned."""
    images_BP, texts_BP = model.encode_image(batch.pixels_BCHW), model.encode_text(batch.ids_BT, batch.real_BT)
    temperature = (-model.logit_scale).exp()
    (texts_B,) = numbered([(batch.ids_BT, batch.real_BT)])
    alike_BB = texts_B[:, None] == texts_B
    loss, nearest = info_nce(images_BP, texts_BP, temperature, two_sided=True, alike_BC=alike_BB)
    return loss, len(images_BP), {"nearest": nearest.detach(), "temperature": temperature.detach()}


def _check_family(medium: Medium, model: Any) -> None:
    if medium != "image" or not isinstance(model, CLIP):
        kind = model.config.model_type
        raise ConfigError(f"does not match an {medium} with a text", field="model", value=kind, hint="clip, for images")
