"""Pretraining: a model of any shape, or a checkpoint to go on from, on the user's text."""

from functools import partial
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field

from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.masking import MASK_TOKENS, MaskedStream, MaskingConfig
from cutaway.data.sentence_pairs import SentencePairsConfig, open_sentence_pairs
from cutaway.data.shapes import Texts
from cutaway.data.spans import SENTINEL, SpanStream, most_sentinels
from cutaway.models.bert_heads import MODEL_TYPES as BERT_TYPES
from cutaway.models.bert_heads import MaskedLM, PreTraining
from cutaway.models.decoder import Decoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.initial_embeddings import EmbeddingsConfig, initialise_embeddings
from cutaway.text.framing import lacking
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import on_held_out
from cutaway.train.objectives import LossConfig, causal_lm, masked_lm, masked_lm_with_pairs, seq2seq_lm
from cutaway.train.origin import OriginConfig, begin
from cutaway.train.recipe import Job, carry_out

HEADS = {"masked": "masked", "nsp": "pretraining", "sop": "pretraining"}  # of a BERT, by objective


class PretrainConfig(OriginConfig):
    """Everything a pretraining run is made of."""

    data: DataConfig
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    objective: Literal["causal", "masked", "spans", "nsp", "sop"] = Field(
        "causal",
        description="the next token; those behind masks; cut-out spans, by an encoder-decoder; those behind masks and "
        "whether a sentence follows, or comes first",
    )
    masking: MaskingConfig = MaskingConfig()
    pairs: SentencePairsConfig = SentencePairsConfig()
    loss: LossConfig = LossConfig()


C = TypeVar("C", bound=PretrainConfig)


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        model, tokenizer = _begin(config, device)
        begun = {}
        if config.embeddings.init != "random" and not (config.out / "last").exists():
            with step("filling the embedding"):
                begun = {"embeddings": initialise_embeddings(model, tokenizer, config.embeddings)}
        with step("reading the data"):
            train, held_out, skipped = _batches(config, model, tokenizer)
        objective = _objective(config)
        return Job(
            model,
            train,
            partial(objective, config=config.loss),
            FullWeights(model, tokenizer),
            {"held_out": on_held_out(model, objective, held_out, precision, config.loop.eval_batches)},
            config.data.rows * config.data.seq_len,
            {"skipped": skipped, **begun},
        )

    return carry_out(config, prepare)


def _batches(config: PretrainConfig, model: Any, tokenizer: Tokenizer) -> tuple[Any, Any, dict[str, Any]]:
    """Streams of batches for the objective, to train and to evaluate on, and what was left out of them."""
    data, masking, seed = config.data, config.masking, config.seed
    if config.objective in ("nsp", "sop"):
        pairs = open_sentence_pairs(data, config.objective, config.pairs, masking, tokenizer, seed)
        return pairs.train, pairs.held_out, {"counts": {}, "first": {}}
    corpus = open_corpus(data, tokenizer, seed)
    streams: Any = (corpus.train, corpus.held_out)
    if config.objective == "masked":
        streams = [MaskedStream(stream, tokenizer, masking) for stream in streams]
    elif config.objective == "spans":
        start = model.config.decoder_start_token_id
        streams = [SpanStream(stream, tokenizer, masking, start) for stream in streams]
    return *streams, corpus.skipped


def _objective(config: PretrainConfig) -> Any:
    with_pairs = partial(masked_lm_with_pairs, weight=config.pairs.weight)
    known = {"causal": causal_lm, "masked": masked_lm, "spans": seq2seq_lm, "nsp": with_pairs, "sop": with_pairs}
    return known[config.objective]


def _begin(config: PretrainConfig, device: torch.device) -> tuple[Any, Tokenizer]:
    """The model as it is before its first step, and its tokeniser."""
    config = with_head(config)
    extra: tuple[str, ...] = ()
    if config.objective == "spans":
        extra = tuple(SENTINEL.format(number) for number in range(most_sentinels(config.data.seq_len, config.masking)))
    elif config.objective != "causal" and not set(MASK_TOKENS) & set(config.train_tokenizer.extra):
        extra = MASK_TOKENS[1:]  # WordPiece has one of its own
    if config.objective in ("nsp", "sop"):
        extra += lacking(config.train_tokenizer)
    texts = Texts(config.data.path, config.data.encoding)
    return begin(config, config.data, texts, partial(check_objective, config), device, extra)


def with_head(config: C) -> C:
    """The configuration, with the head of a fresh BERT that the objective trains."""
    if config.objective in HEADS and config.model.get("model_type") in BERT_TYPES:
        return config.model_copy(update={"model": {"head": HEADS[config.objective], **config.model}})
    return config


def check_objective(config: PretrainConfig, model: Any) -> None:
    """Refuse a model that cannot be trained on the objective."""
    able = {
        "causal": Decoder,
        "masked": Decoder | MaskedLM,
        "spans": EncoderDecoder,
        "nsp": PreTraining,
        "sop": PreTraining,
    }
    if not isinstance(model, able[config.objective]) or getattr(model, "SOURCE", "text") != "text":
        kind, head = model.config.model_type, getattr(model.config, "head", None)
        raise ConfigError(
            f"cannot be trained on a {kind} model" + (f" with head {head}" if head else ""),
            field="objective",
            value=config.objective,
            hint="causal: a decoder; masked: a decoder, bert or roberta with head masked; spans: t5, transformer or "
            "rnn_seq2seq; nsp, sop: bert with head pretraining",
        )
