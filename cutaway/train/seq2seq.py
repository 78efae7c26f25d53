"""Sequence to sequence: an encoder-decoder of any family on pairs, from nothing or from a checkpoint."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.pairs import PairsConfig, open_pairs, read_pairs
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.families import families, make_model, model_class
from cutaway.models.huggingface import check_tokenizer
from cutaway.models.load import load
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import held_out_loss
from cutaway.train.memory import refuse_if_too_large, static_memory
from cutaway.train.objectives import LossConfig, seq2seq_lm
from cutaway.train.recipe import Job, RunConfig, carry_out
from cutaway.train.run import check_length


class Seq2SeqLoss(LossConfig):
    """As for language models, smoothed as in Vaswani et al. 2017."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)


class Seq2SeqConfig(RunConfig):
    """Everything a sequence-to-sequence run is made of."""

    data: PairsConfig
    model: dict[str, Any] = Field(
        {"model_type": "transformer"}, description="family and shape: transformer, t5 or rnn_seq2seq, and its fields"
    )
    start: str | None = Field(None, description="instead of `model`: a checkpoint to go on from, with its tokeniser")
    tokenizer: Path | None = Field(None, description="folder or file; null: train one on both sides")
    train_tokenizer: TrainTokenizerConfig = TrainTokenizerConfig()
    loss: Seq2SeqLoss = Seq2SeqLoss()

    @model_validator(mode="after")
    def _one_origin(self) -> "Seq2SeqConfig":
        if self.start is not None and self.model_fields_set & {"model", "tokenizer", "train_tokenizer"}:
            raise ValueError("start brings its own model and tokeniser; leave out model, tokenizer and train_tokenizer")
        return self


def train_seq2seq(config: Seq2SeqConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        with step("reading the data"):
            pairs = read_pairs(config.data.source, config.data.target, config.data)
        model, tokenizer = _begin(config, pairs, device)
        corpus = open_pairs(config.data, pairs, tokenizer, model.config.decoder_start_token_id, config.seed)

        def evaluate() -> float:
            batches = islice(corpus.held_out.once(), config.loop.eval_batches)
            return held_out_loss(model, seq2seq_lm, batches, precision)

        return Job(
            model,
            corpus.train,
            partial(seq2seq_lm, config=config.loss),
            FullWeights(model, tokenizer),
            {"held_out": evaluate},
            2 * config.data.rows * config.data.seq_len,
            {"pairs": len(corpus.train.rows), "skipped": corpus.skipped},
        )

    return carry_out(config, prepare)


def _begin(
    config: Seq2SeqConfig, pairs: list[tuple[str, str]], device: torch.device
) -> tuple[EncoderDecoder, Tokenizer]:
    """The model as it is before its first step, and its tokeniser."""
    if config.start is not None:
        loaded = load(config.start, dtype="float32", device=str(device))
        if not isinstance(loaded.model, EncoderDecoder):
            raise _no_encoder_decoder(loaded.model.config.model_type)
        check_length(config.data, loaded.model)
        return loaded.model, loaded.tokenizer
    if (config.out / "last").exists():
        tokenizer = load_tokenizer(config.out / "last")
    elif config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        with step("training a tokeniser"):
            tokenizer = train_tokenizer([side for pair in pairs for side in pair], config.train_tokenizer)
    kind = config.model.get("model_type", "transformer")
    if kind in families() and not issubclass(model_class(families()[kind]), EncoderDecoder):
        raise _no_encoder_decoder(kind)
    start = next(id for id in (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, 0) if id is not None)
    own = {"model_type": kind, "vocab_size": tokenizer.vocab_size, "decoder_start_token_id": start}
    fields = {**own, **config.model}
    with torch.device("meta"):
        planned = make_model(fields)
    check_length(config.data, planned)
    check_tokenizer(tokenizer, planned, source="model.vocab_size")
    refuse_if_too_large(static_memory(planned), device)
    model: Any = make_model(fields).to(device)
    return model, tokenizer


def _no_encoder_decoder(kind: str) -> ConfigError:
    names = [name for name, module in families().items() if issubclass(model_class(module), EncoderDecoder)]
    return ConfigError("is no encoder-decoder", field="model", value=kind, hint=f"known: {', '.join(sorted(names))}")
