"""Classification: a head on an encoder for the label of a text, of a pair of texts, or of each word. L labels."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cutaway.core.config import Config
from cutaway.core.progress import step
from cutaway.data.labelled import LabelBatch, LabelledConfig, label_names, open_labelled, read_labelled
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.bert import Head
from cutaway.models.bert_heads import build, with_head
from cutaway.models.packaged import SENTENCE_ENCODER
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import FullWeights
from cutaway.train.gradients import autocast
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import Metrics
from cutaway.train.origin import load_encoder
from cutaway.train.recipe import Job, RunConfig, carry_out
from cutaway.train.run import check_length


class ClassifyOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(5e-5, gt=0, description="peak learning rate; for the head alone rather 1e-2")


class ClassifyLoss(Config):
    """Terms of the loss."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class ClassifyConfig(RunConfig):
    """Everything a classification run is made of."""

    data: LabelledConfig
    start: str = Field(SENTENCE_ENCODER, description="an encoder: a folder or a packaged name")
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
        with step("reading the data"):
            records = read_labelled(config.data.path, config.data)
        labels = label_names(records)
        loaded = load_encoder(config.start, device)
        head: Head = "tokens" if isinstance(records[0].label, tuple) else "sequence"
        model: Any = with_head(loaded.model, head, labels).to(device)
        if config.fresh:
            model = build(model.config).to(device)
        if not config.train_encoder:
            model.trunk.requires_grad_(False)
        check_length(config.data, model)
        corpus = open_labelled(config.data, records, labels, loaded.tokenizer, config.seed)

        def evaluate() -> float:
            return held_out_loss(model, classification, corpus.held_out.once(), precision)

        def finish() -> dict[str, Any]:
            return {"scores": scores(model, corpus.held_out.once(), precision)}

        return Job(
            model,
            corpus.train,
            partial(classification, config=config.loss),
            FullWeights(model, loaded.tokenizer),
            {"held_out": evaluate},
            config.data.rows * config.data.seq_len,
            {"labels": corpus.counts, "truncated": corpus.truncated},
            finish,
        )

    return carry_out(config, prepare)


def classification(model: Any, batch: LabelBatch, config: ClassifyLoss = ClassifyLoss()) -> tuple[Tensor, int, Metrics]:
    """Cross-entropy of the labels."""
    logits_NL, labels_N = label_scores(model, batch)
    loss = cross_entropy(logits_NL.float(), labels_N, reduction="sum", label_smoothing=config.label_smoothing)
    correct = (logits_NL.argmax(-1) == labels_N).float().mean() if len(labels_N) else 0.0
    return loss, len(labels_N), {"accuracy": correct}


def label_scores(model: Any, batch: LabelBatch) -> tuple[Tensor, Tensor]:
    """The scores of every labelled text or token, N × L, and its label."""
    h_BTD = model(batch.ids_BT, mask_BTS=batch.real_BT[:, None], types_BT=batch.types_BT)
    logits = model.label_logits(h_BTD).flatten(0, -2)
    labelled = batch.labels.flatten() != IGNORED
    return logits[labelled], batch.labels.flatten()[labelled]


@torch.no_grad()
def scores(model: nn.Module, batches: Iterable[LabelBatch], precision: torch.dtype = torch.float32) -> dict[str, float]:
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
