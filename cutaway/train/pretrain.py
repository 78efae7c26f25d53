"""Pretraining: a model of any shape, or a checkpoint to go on from, on the user's text."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.masking import MASK_TOKENS, MaskedStream, MaskingConfig
from cutaway.data.sentence_pairs import SentencePairsConfig, open_sentence_pairs
from cutaway.data.shapes import Texts
from cutaway.models.bert_heads import MODEL_TYPES as BERT_TYPES
from cutaway.models.bert_heads import MaskedLM, PreTraining
from cutaway.models.decoder import Decoder
from cutaway.models.families import make_model
from cutaway.models.huggingface import check_tokenizer
from cutaway.models.initial_embeddings import EmbeddingsConfig, initialise_embeddings
from cutaway.models.load import load
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import held_out_loss
from cutaway.train.memory import refuse_if_too_large, static_memory
from cutaway.train.objectives import LossConfig, causal_lm, masked_lm, masked_lm_with_pairs
from cutaway.train.recipe import Job, RunConfig, carry_out
from cutaway.train.run import check_length

HEADS = {"masked": "masked", "nsp": "pretraining", "sop": "pretraining"}  # of a BERT, by objective


class PretrainConfig(RunConfig):
    """Everything a pretraining run is made of."""

    data: DataConfig
    model: dict[str, Any] = Field(
        {"model_type": "llama"}, description="family and shape: model_type and the fields of its config.json"
    )
    start: str | None = Field(None, description="instead of `model`: a checkpoint to go on from, with its tokeniser")
    tokenizer: Path | None = Field(None, description="folder or file; null: train one on the data")
    train_tokenizer: TrainTokenizerConfig = TrainTokenizerConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    objective: Literal["causal", "masked", "nsp", "sop"] = Field(
        "causal", description="the next token; those behind masks; these and whether a sentence follows, or comes first"
    )
    masking: MaskingConfig = MaskingConfig()
    pairs: SentencePairsConfig = SentencePairsConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _one_origin(self) -> "PretrainConfig":
        if self.start is not None and self.model_fields_set & {"model", "tokenizer", "train_tokenizer", "embeddings"}:
            raise ValueError(
                "start brings its own model and tokeniser; leave out model, embeddings, tokenizer and train_tokenizer"
            )
        return self


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        model, tokenizer = _resume_or_begin(config, device)
        begun = {}
        if config.embeddings.init != "random" and not (config.out / "last").exists():
            with step("filling the embedding"):
                begun = {"embeddings": initialise_embeddings(model, tokenizer, config.embeddings)}
        with step("reading the data"):
            train, held_out, skipped = _batches(config, tokenizer)
        objective = _objective(config)

        def evaluate() -> float:
            batches = islice(held_out.once(), config.loop.eval_batches)
            return held_out_loss(model, objective, batches, precision)

        return Job(
            model,
            train,
            partial(objective, config=config.loss),
            FullWeights(model, tokenizer),
            {"held_out": evaluate},
            config.data.rows * config.data.seq_len,
            {"skipped": skipped, **begun},
        )

    return carry_out(config, prepare)


def _batches(config: PretrainConfig, tokenizer: Tokenizer) -> tuple[Any, Any, dict[str, Any]]:
    """Streams of batches for the objective, to train and to evaluate on, and what was left out of them."""
    data, masking, seed = config.data, config.masking, config.seed
    if config.objective in ("nsp", "sop"):
        pairs = open_sentence_pairs(data, config.objective, config.pairs, masking, tokenizer, seed)
        return pairs.train, pairs.held_out, {"counts": {}, "first": {}}
    corpus = open_corpus(data, tokenizer, seed)
    if config.objective == "causal":
        return corpus.train, corpus.held_out, corpus.skipped
    train, held_out = (MaskedStream(stream, tokenizer, masking) for stream in (corpus.train, corpus.held_out))
    return train, held_out, corpus.skipped


def _objective(config: PretrainConfig) -> Any:
    if config.objective == "causal":
        return causal_lm
    return masked_lm if config.objective == "masked" else partial(masked_lm_with_pairs, weight=config.pairs.weight)


def _resume_or_begin(config: PretrainConfig, device: torch.device) -> tuple[Any, Tokenizer]:
    """The model as it is before its first step, and its tokeniser."""
    if config.start is not None:
        loaded = load(config.start, dtype="float32", device=str(device))
        _check_objective(config, loaded.model)
        check_length(config.data, loaded.model)
        return loaded.model, loaded.tokenizer
    tokenizer = _tokenizer(config)
    fields = {"vocab_size": tokenizer.vocab_size, **config.model}
    if config.objective in HEADS and fields.get("model_type") in BERT_TYPES:
        fields = {"head": HEADS[config.objective], **fields}
    with torch.device("meta"):
        planned = make_model(fields)
    _check_objective(config, planned)
    check_tokenizer(tokenizer, planned, source="model.vocab_size")
    check_length(config.data, planned)
    refuse_if_too_large(static_memory(planned), device)
    return make_model(fields).to(device), tokenizer


def _check_objective(config: PretrainConfig, model: Any) -> None:
    able = {"causal": Decoder, "masked": Decoder | MaskedLM, "nsp": PreTraining, "sop": PreTraining}
    if not isinstance(model, able[config.objective]):
        kind, head = model.config.model_type, getattr(model.config, "head", None)
        raise ConfigError(
            f"cannot be trained on a {kind} model" + (f" with head {head}" if head else ""),
            field="objective",
            value=config.objective,
            hint="causal: a decoder; masked: a decoder, bert or roberta with head masked; nsp, sop: bert with head pretraining",
        )


def _tokenizer(config: PretrainConfig) -> Tokenizer:
    """The run's own where it goes on, the one that was given, or one trained on the data."""
    if (config.out / "last").exists():
        return load_tokenizer(config.out / "last")
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    recipe = config.train_tokenizer
    if config.objective != "causal" and not set(MASK_TOKENS) & set(recipe.extra):  # WordPiece has one of its own
        recipe = recipe.model_copy(update={"extra": (*recipe.extra, MASK_TOKENS[1])})
    with step("training a tokeniser"):
        return train_tokenizer(Texts(config.data.path, config.data.encoding), recipe)
