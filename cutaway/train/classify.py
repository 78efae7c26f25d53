"""Classification: a head on an encoder for the label of a text, of a pair of texts, of each word, of an image, or of a sound.

What the rows hold decides which. N labelled items, L labels.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.described import medium_of, read_sides
from cutaway.data.labelled import LabelBatch, LabelledConfig, count_labels, open_labelled, read_labelled
from cutaway.data.labelled_files import LabelledFiles, open_labelled_files
from cutaway.data.preprocess import Medium
from cutaway.data.rows import RowCorpus
from cutaway.loss.language_modelling import IGNORED
from cutaway.models import bert_heads, vit, whisper
from cutaway.models.bert import Head
from cutaway.models.bert_heads import with_head
from cutaway.models.families import family, make_model
from cutaway.models.huggingface import load_model
from cutaway.models.load import find
from cutaway.models.packaged import SENTENCE_ENCODER
from cutaway.models.vit import ViT
from cutaway.models.whisper import Whisper
from cutaway.models.whisper_classifier import WhisperClassifier
from cutaway.optim.adamw import OptimConfig
from cutaway.text.framing import lacking
from cutaway.train.checkpoint import FullWeights
from cutaway.train.gradients import autocast
from cutaway.train.held_out import on_held_out
from cutaway.train.objectives import Metrics
from cutaway.train.origin import OriginConfig, begin, check_encoder, media_of, shape_of
from cutaway.train.recipe import Job, carry_out


class ClassifyOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(5e-5, gt=0, description="peak learning rate; for the head alone rather 1e-2")


class ClassifyLoss(Config):
    """Terms of the loss."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class ClassifyConfig(OriginConfig):
    """Everything a classification run is made of."""

    data: LabelledConfig
    start: str | None = Field(
        SENTENCE_ENCODER,
        description="an encoder of texts, for images a ViT, for sounds a Whisper: a folder or a packaged name; null: `model`",
    )
    model: dict[str, Any] = Field(
        {"model_type": "bert"},
        description="with start=null: family and shape; bert or roberta, vit for images, whisper for sounds",
    )
    fresh: bool = Field(False, description="only the shape and the tokeniser of `start`; the weights are drawn")
    train_encoder: bool = Field(True, description="false: the head alone learns, on the encoder as it is")
    loss: ClassifyLoss = ClassifyLoss()
    optim: ClassifyOptim = ClassifyOptim()


def classify(config: ClassifyConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        medium = medium_of(config.data.path, config.data.encoding)
        begun = _texts(config, device) if medium is None else _files(config, medium, device)
        files, corpus, length, counts = begun
        model: Any = files.model
        objective = classification if config.train_encoder else head_alone
        if not config.train_encoder:
            model.trunk.requires_grad_(False)
            if hasattr(model.trunk, "pooler"):  # a layer of the head, as RoBERTa's is; few encoders bring one
                model.trunk.pooler.requires_grad_(True)
        return Job(
            model,
            corpus.train,
            partial(objective, config=config.loss),
            files,
            {"held_out": on_held_out(model, classification, corpus.held_out, precision)},
            config.data.rows * length,
            {"labels": counts, "skipped": corpus.skipped},
            lambda: {"scores": scores(model, corpus.held_out.once(), precision)},
        )

    return carry_out(config, prepare)


Begun = tuple[FullWeights, RowCorpus[Any, Any], int, dict[str, int]]
"""The model with its files, what it learns from, positions of a row at most, and how often each label occurs."""


def _texts(config: ClassifyConfig, device: torch.device) -> Begun:
    with step("reading the data"):
        records = read_labelled(config.data.path, config.data)
    counts = count_labels(name for record in records for name in record.labels)
    texts = (part for record in records for part in record.texts)
    encoder, tokenizer = begin(config, config.data, texts, check_encoder, device, lacking(config.train_tokenizer))
    head: Head = "tokens" if isinstance(records[0].label, tuple) else "sequence"
    model = with_head(encoder, head, tuple(counts)).to(device)
    if config.fresh:
        model = bert_heads.build(model.config).to(device)  # type: ignore[arg-type]
    corpus = open_labelled(config.data, records, tuple(counts), tokenizer, config.seed)
    return FullWeights(model, tokenizer), corpus, config.data.seq_len, counts


def _files(config: ClassifyConfig, medium: Medium, device: torch.device) -> Begun:
    data = config.data
    with step("reading the data"):
        rows, held = read_sides(data.path, data.held_out, medium, data.label_field, data.encoding)
    counts = count_labels(row.said for row in rows)
    model = _with_labels(config, medium, tuple(counts), device).to(device)
    media = media_of(config, data, medium, model)
    corpus = open_labelled_files(data, rows, held, tuple(counts), media, model.source_positions, config.seed)
    return FullWeights(model, beside=media.beside), corpus, next(corpus.held_out.once()).length, counts


def _with_labels(config: ClassifyConfig, medium: Medium, labels: tuple[str, ...], device: torch.device) -> Any:
    """The model that reads such files, with a fresh head; all of it fresh where the run says so."""
    if config.start is None:
        with torch.device("meta"):  # a Whisper is drawn without its decoder
            start: Any = make_model(shape_of(config))
    else:
        start = load_model(find(config.start), torch.float32, device)
    if medium == "image" and isinstance(start, ViT):
        put: Any = vit.with_labels
    elif medium == "audio" and isinstance(start, Whisper | WhisperClassifier):
        put = whisper.with_labels
    else:
        what, hint = {"image": ("an image", "vit, for images"), "audio": ("a sound", "whisper, for sounds")}[medium]
        raise ConfigError(f"puts no labels on {what}", field="model", value=start.config.model_type, hint=hint)
    if config.start is None or config.fresh:
        return family(start.config.model_type).build(start.config.model_copy(update={"labels": labels}))
    return put(start, labels)


def classification(
    model: Any, batch: LabelBatch | LabelledFiles, config: ClassifyLoss = ClassifyLoss()
) -> tuple[Tensor, int, Metrics]:
    """Cross-entropy of the labels."""
    logits_NL, labels_N = label_scores(model, batch)
    loss = cross_entropy(logits_NL.float(), labels_N, reduction="sum", label_smoothing=config.label_smoothing)
    correct = (logits_NL.argmax(-1) == labels_N).float().mean() if len(labels_N) else 0.0
    return loss, len(labels_N), {"accuracy": correct}


def head_alone(
    model: Any, batch: LabelBatch | LabelledFiles, config: ClassifyLoss = ClassifyLoss()
) -> tuple[Tensor, int, Metrics]:
    """`classification` on the encoder as it is: without its dropout, which the loop switches on for the whole model."""
    model.trunk.eval()
    return classification(model, batch, config)


def label_scores(model: Any, batch: LabelBatch | LabelledFiles) -> tuple[Tensor, Tensor]:
    """The scores of every labelled text, token or file, N × L, and its label."""
    if isinstance(batch, LabelledFiles):
        h_BTD = model(batch.media)
    else:
        h_BTD = model(batch.ids_BT, mask_BTS=batch.real_BT[:, None], types_BT=batch.types_BT)
    logits = model.label_logits(h_BTD).flatten(0, -2)
    labelled = batch.labels.flatten() != IGNORED
    return logits[labelled], batch.labels.flatten()[labelled]


@torch.no_grad()
def scores(model: nn.Module, batches: Iterable[Any], precision: torch.dtype = torch.float32) -> dict[str, float]:
    """Accuracy, and the F1 of each label averaged over the labels that occur."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    said, true = [], []
    for batch in batches:
        with autocast(device, precision):
            logits_NL, labels_N = label_scores(model, batch.to(device))
        said.append(logits_NL.argmax(-1).cpu())
        true.append(labels_N.cpu())
    model.train(training)
    said_N, true_N = torch.cat(said), torch.cat(true)
    f1 = []
    for label in true_N.unique():
        hit = ((said_N == label) & (true_N == label)).sum()
        f1.append(float(2 * hit / ((said_N == label).sum() + (true_N == label).sum())))
    return {"accuracy": float((said_N == true_N).float().mean()), "macro_f1": sum(f1) / len(f1), "items": len(true_N)}
