"""Sequence to sequence: an encoder-decoder of any family on pairs, from nothing or from a checkpoint."""

from functools import partial
from itertools import islice
from typing import Any

import torch
from pydantic import Field

from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.pairs import PairsConfig, open_pairs, read_pairs
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.families import families, model_class
from cutaway.train.checkpoint import FullWeights
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import LossConfig, seq2seq_lm
from cutaway.train.origin import OriginConfig, begin
from cutaway.train.recipe import Job, carry_out


class Seq2SeqLoss(LossConfig):
    """As for language models, smoothed as in Vaswani et al. 2017."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)


class Seq2SeqConfig(OriginConfig):
    """Everything a sequence-to-sequence run is made of."""

    data: PairsConfig
    model: dict[str, Any] = Field(
        {"model_type": "transformer"}, description="family and shape: transformer, t5 or rnn_seq2seq, and its fields"
    )
    loss: Seq2SeqLoss = Seq2SeqLoss()


def train_seq2seq(config: Seq2SeqConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        with step("reading the data"):
            pairs = read_pairs(config.data.source, config.data.target, config.data)
        texts = [side for pair in pairs for side in pair]
        model, tokenizer = begin(config, config.data, texts, _check_family, device)
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


def _check_family(model: Any) -> None:
    if not isinstance(model, EncoderDecoder):
        names = [name for name, module in families().items() if issubclass(model_class(module), EncoderDecoder)]
        kind, hint = model.config.model_type, f"known: {', '.join(sorted(names))}"
        raise ConfigError("is no encoder-decoder", field="model", value=kind, hint=hint)
