"""Native multimodal training: one decoder, from nothing, on rows of interleaved text, images, sounds and videos."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.interleaved import InterleavedConfig, OmniBatch, open_interleaved
from cutaway.data.parts import read_rows
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.omni import Omni
from cutaway.nn.media import TOKENS
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.gradients import autocast
from cutaway.train.held_out import on_held_out
from cutaway.train.objectives import PLAIN, LossConfig, Metrics, document_mask, token_loss
from cutaway.train.origin import OriginConfig, begin
from cutaway.train.recipe import Job, carry_out


class OmniRunConfig(OriginConfig):
    """Everything a multimodal run is made of."""

    data: InterleavedConfig
    model: dict[str, Any] = Field(
        {"model_type": "omni"}, description="shape: the fields of models.omni.OmniConfig, such as media.image_size"
    )
    loss: LossConfig = LossConfig()


def train_omni(config: OmniRunConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        texts = (part.text for row in read_rows(config.data.path, config.data.encoding) for part in row.parts)
        model, tokenizer = begin(config, config.data, texts, _check_family, device, tuple(TOKENS.values()))
        shape = model.config
        _check_tokens(tokenizer, shape.media_ids)
        with step("reading the data"):
            corpus = open_interleaved(config.data, tokenizer, shape.media, shape.media_ids, config.seed)
        return Job(
            model,
            corpus.train,
            partial(omni_lm, config=config.loss),
            FullWeights(model, tokenizer),
            {"held_out": on_held_out(model, omni_lm, corpus.held_out, precision, config.loop.eval_batches)},
            config.data.rows * config.data.seq_len,
            {"rows": len(corpus.train.store), "skipped": corpus.skipped},
            lambda: {"accuracy": accuracy(model, corpus.held_out.once(), precision)},
        )

    return carry_out(config, prepare)


def omni_lm(model: Any, batch: OmniBatch, config: LossConfig = PLAIN) -> tuple[Tensor, int, Metrics]:
    """The next token of the supervised texts, given all that stands before it in its row."""
    return token_loss(model, _hidden(model, batch), batch.targets_BT, config)


@torch.no_grad()
def accuracy(model: Any, batches: Iterable[Any], precision: torch.dtype = torch.float32) -> dict[str, dict[str, float]]:
    """By the kinds of media in a row ("audio", "image+video", "text" …): how many rows there are, and the share of which every
    supervised token is the likeliest one, so that greedy decoding would write them all.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    found: dict[str, list[bool]] = defaultdict(list)
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, precision):
            h_BTD = _hidden(model, batch)
        supervised_BT = batch.targets_BT != IGNORED
        right_BT = torch.ones_like(supervised_BT)
        right_BT[supervised_BT] = model.logits(h_BTD[supervised_BT]).argmax(-1) == batch.targets_BT[supervised_BT]
        for kinds, right in _rows(batch, right_BT, model.config.media_ids):
            found[kinds].append(right)
    model.train(training)
    return {kinds: {"rows": len(rows), "accuracy": sum(rows) / len(rows)} for kinds, rows in sorted(found.items())}


def _hidden(model: Any, batch: OmniBatch) -> Tensor:
    media = {"features_BTF": batch.features_BTF, "places_BT": batch.places_BT}
    mask = document_mask(batch.segments_BT)
    return model(batch.ids_BT, **media, positions_BT=batch.positions_BT, mask_BTS=mask)


def _rows(batch: OmniBatch, right_BT: Tensor, media_ids: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """The kinds of media of every row that was packed, and whether all of it is right."""
    for ids_T, segments_T, right_T in zip(batch.ids_BT, batch.segments_BT, right_BT, strict=True):
        for segment in range(1, int(segments_T.max()) + 1):
            own_T = segments_T == segment
            kinds = [kind for kind, id in media_ids.items() if bool((ids_T[own_T] == id).any())]
            yield "+".join(kinds) or "text", bool(right_T[own_T].all())


def _check_family(model: Any) -> None:
    if not isinstance(model, Omni):
        raise ConfigError("reads no media", field="model", value=model.config.model_type, hint="omni")


def _check_tokens(tokenizer: Tokenizer, media_ids: dict[str, int]) -> None:
    """The tokens that hold the places of media must be the tokeniser's and the model's alike."""
    wrong = [TOKENS[kind] for kind, id in media_ids.items() if tokenizer.special.get(TOKENS[kind]) != id]
    if wrong:
        raise ConfigError(
            f"lacks the model's special tokens {', '.join(wrong)}",
            field="tokenizer",
            hint="leave it out, or train one with them: cutaway tokenizer train … extra",
        )
