"""Sequence to sequence: an encoder-decoder of any family on pairs, from nothing or from a checkpoint.

What the rows hold decides what the model must read: a text, or a file with an image or a sound.
"""

from functools import partial
from typing import Any

import torch
from pydantic import Field

from cutaway.core.errors import ConfigError, near_matches
from cutaway.core.progress import step
from cutaway.data.described import medium_of, read_sides
from cutaway.data.file_pairs import open_file_pairs
from cutaway.data.pairs import PairBatch, PairsConfig, open_pairs, read_pairs
from cutaway.data.preprocess import Medium
from cutaway.data.rows import RowCorpus
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.families import families, model_classes
from cutaway.models.load import find
from cutaway.models.target_rules import GENERATION, TargetRules, read_target_rules
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import on_held_out
from cutaway.train.objectives import LossConfig, seq2seq_lm
from cutaway.train.origin import OriginConfig, begin, media_of
from cutaway.train.recipe import Job, carry_out


class Seq2SeqLoss(LossConfig):
    """As for language models, smoothed as in Vaswani et al. 2017."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)


class Seq2SeqConfig(OriginConfig):
    """Everything a sequence-to-sequence run is made of."""

    data: PairsConfig
    model: dict[str, Any] = Field(
        {"model_type": "transformer"},
        description="family and shape: transformer, t5 or rnn_seq2seq, for sounds whisper, for images "
        "vision-encoder-decoder, and its fields",
    )
    language: str | None = Field(None, description="of the targets, for a Whisper that writes many: en, de, zh …")
    loss: Seq2SeqLoss = Seq2SeqLoss()


Begun = tuple[FullWeights, RowCorpus[Any, PairBatch], int]
"""The model with its files, what it learns from, and positions of a source at most."""


def train_seq2seq(config: Seq2SeqConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        data = config.data
        medium = medium_of(data.source, data.encoding) if data.target is None else None
        begun = _texts(config, device) if medium is None else _files(config, medium, device)
        files, corpus, source_length = begun
        return Job(
            files.model,
            corpus.train,
            partial(seq2seq_lm, config=config.loss),
            files,
            {"held_out": on_held_out(files.model, seq2seq_lm, corpus.held_out, precision, config.loop.eval_batches)},
            data.rows * (source_length + data.seq_len),
            {"pairs": len(corpus.train.rows), "skipped": corpus.skipped},
        )

    return carry_out(config, prepare)


def _texts(config: Seq2SeqConfig, device: torch.device) -> Begun:
    data = config.data
    with step("reading the data"):
        pairs = read_pairs(data.source, data.target, data)
    texts = (side for pair in pairs for side in pair)
    _language(config.language, TargetRules())
    model, tokenizer = begin(config, data, texts, partial(_check_family, "text"), device)
    corpus = open_pairs(data, pairs, tokenizer, model.config.decoder_start_token_id, config.seed)
    return FullWeights(model, tokenizer), corpus, data.seq_len


def _files(config: Seq2SeqConfig, medium: Medium, device: torch.device) -> Begun:
    data = config.data
    with step("reading the data"):
        rows, held = read_sides(data.source, data.held_out_source, medium, "text", data.encoding)
    model, tokenizer = begin(config, data, (row.said for row in rows), partial(_check_family, medium), device)
    media = media_of(config, data, medium, model)
    rules = TargetRules() if config.start is None else read_target_rules(find(config.start), model.config.vocab_size)
    prompt = rules.prompt(model.config.decoder_start_token_id, _language(config.language, rules))
    corpus = open_file_pairs(data, rows, held, media, model.source_positions, prompt, tokenizer, config.seed)
    kept = rules.forcing(prompt).model_dump(mode="json", exclude_defaults=True)
    files = FullWeights(model, tokenizer, beside={**media.beside, GENERATION: kept})
    return files, corpus, next(corpus.held_out.once()).real_BS.shape[1]


def _language(asked: str | None, rules: TargetRules) -> int | None:
    """The token of the language that is learned, where the checkpoint leaves it to be detected."""
    known = {token.strip("<|>"): id for token, id in rules.lang_to_id.items()} if rules.detects else {}
    if asked is None and known:
        raise ConfigError(
            "must say which is learned: the checkpoint writes many", field="language", hint=", ".join(known)
        )
    if asked is not None and asked not in known:
        hint = near_matches(asked, known) if known else "it detects none; leave it out"
        raise ConfigError("is no language that the model is told", field="language", value=asked, hint=hint)
    return known.get(asked or "")


def _check_family(source: str, model: Any) -> None:
    if isinstance(model, EncoderDecoder) and source == model.SOURCE:
        return
    made = [(name, kind) for name, module in families().items() for kind in model_classes(module)]
    names = [name for name, kind in made if issubclass(kind, EncoderDecoder) and source == kind.SOURCE]
    raise ConfigError(
        f"is no encoder-decoder that reads {source}, as the data holds",
        field="model",
        value=model.config.model_type,
        hint=f"known: {', '.join(sorted(names))}",
    )
