"""Pretraining: a model of any shape, or a checkpoint to go on from, on the user's text."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.device import pick_device, pick_dtype
from cutaway.core.progress import step
from cutaway.core.seeds import seed_all
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.shapes import Texts
from cutaway.models.families import make_model
from cutaway.models.huggingface import check_tokenizer
from cutaway.models.load import load
from cutaway.optim.adamw import OptimConfig
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import held_out_loss
from cutaway.train.loop import LoopConfig, train
from cutaway.train.memory import refuse_if_too_large, static_memory, training_memory
from cutaway.train.objectives import LossConfig, causal_lm
from cutaway.train.run import begin_run, check_length, finish_run


class PretrainConfig(Config):
    """Everything a pretraining run is made of."""

    out: Path = Field(description="the run's folder; a run that was stopped there goes on")
    data: DataConfig
    model: dict[str, Any] = Field(
        {"model_type": "llama"}, description="family and shape: model_type and the fields of its config.json"
    )
    start: str | None = Field(None, description="instead of `model`: a checkpoint to go on from, with its tokeniser")
    tokenizer: Path | None = Field(None, description="folder or file; null: train one on the data")
    train_tokenizer: TrainTokenizerConfig = TrainTokenizerConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    loop: LoopConfig = LoopConfig()
    seed: int = Field(0, ge=0, description="decides the weights, the order of the data and dropout")
    device: str = "auto"

    @model_validator(mode="after")
    def _one_origin(self) -> "PretrainConfig":
        if self.start is not None and self.model_fields_set & {"model", "tokenizer", "train_tokenizer"}:
            raise ValueError("start brings its own model and tokeniser; leave out model, tokenizer and train_tokenizer")
        return self


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """
    report = begin_run(config, config.out)
    if report is not None:
        return report
    seed_all(config.seed)
    device = pick_device(config.device)
    precision = pick_dtype(config.loop.precision, device)
    model, tokenizer = _resume_or_begin(config, device)
    with step("reading the data"):
        corpus = open_corpus(config.data, tokenizer, config.seed)
    memory = training_memory(model, config.data.rows, config.data.seq_len, precision)
    refuse_if_too_large(memory, device, held=static_memory(model).weights)
    objective = partial(causal_lm, config=config.loss)

    def evaluate() -> float:
        batches = islice(corpus.held_out.once(), config.loop.eval_batches)
        return held_out_loss(model, causal_lm, batches, precision)

    before = evaluate()
    outcome = train(
        model, corpus.train, objective, FullWeights(model, tokenizer), config.out, config.loop, config.optim, evaluate
    )
    report = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "held_out_loss": {"before": before, "after": outcome.best, "step": outcome.best_step},
        "skipped": corpus.skipped,
    }
    finish_run(config.out, report)
    return report


def _resume_or_begin(config: PretrainConfig, device: torch.device) -> tuple[Any, Tokenizer]:
    """The model as it is before its first step, and its tokeniser."""
    if config.start is not None:
        loaded = load(config.start, dtype="float32", device=str(device))
        check_length(config.data, loaded.model)
        return loaded.model, loaded.tokenizer
    tokenizer = _tokenizer(config)
    fields = {"vocab_size": tokenizer.vocab_size, **config.model}
    with torch.device("meta"):
        planned = make_model(fields)
    check_tokenizer(tokenizer, planned, source="model.vocab_size")
    check_length(config.data, planned)
    refuse_if_too_large(static_memory(planned), device)
    return make_model(fields).to(device), tokenizer


def _tokenizer(config: PretrainConfig) -> Tokenizer:
    """The run's own where it goes on, the one that was given, or one trained on the data."""
    if (config.out / "last").exists():
        return load_tokenizer(config.out / "last")
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    with step("training a tokeniser"):
        return train_tokenizer(Texts(config.data.path, config.data.encoding), config.train_tokenizer)
