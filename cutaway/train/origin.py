"""Where a recipe's model comes from: drawn afresh in a given shape with a tokeniser, or a checkpoint to go on from."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.described import FilesConfig, Media
from cutaway.data.preprocess import Medium, preprocessor
from cutaway.models.bert import Bert
from cutaway.models.bert_heads import WithHead
from cutaway.models.families import config_class, families, is_known, make_model
from cutaway.models.huggingface import check_tokenizer
from cutaway.models.load import find, load
from cutaway.nn.media import TOKENS
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.memory import refuse_if_too_large, static_memory
from cutaway.train.recipe import RunConfig
from cutaway.train.run import HasLength, check_length

_BROUGHT = ("model", "tokenizer", "train_tokenizer", "embeddings")  # by a checkpoint


class OriginConfig(RunConfig):
    """A run whose model is drawn afresh or comes from a checkpoint."""

    model: dict[str, Any] = Field(
        {"model_type": "llama"}, description="family and shape: model_type and the fields of its config.json"
    )
    start: str | None = Field(None, description="instead of `model`: a checkpoint to go on from, with its tokeniser")
    tokenizer: Path | None = Field(None, description="folder or file; null: train one on the data")
    train_tokenizer: TrainTokenizerConfig = TrainTokenizerConfig()

    @model_validator(mode="after")
    def _one_origin(self) -> "OriginConfig":
        fields = type(self).model_fields
        given = [name for name in _BROUGHT if name in fields and getattr(self, name) != fields[name].default]
        if self.start is not None and given:
            raise ValueError(f"start brings its own model and tokeniser; leave out {', '.join(given)}, or start=null")
        return self


def begin(
    config: OriginConfig,
    data: HasLength,
    texts: Iterable[str],
    check: Callable[[Any], None],
    device: torch.device,
    extra: tuple[str, ...] = (),
) -> tuple[Any, Tokenizer]:
    """The model as it is before its first step, and its tokeniser.

    Args:
        texts: what a tokeniser is trained on, where none is given.
        check: refuses a model that the recipe cannot train.
        extra: special tokens that a new tokeniser needs.
    """
    if config.start is not None:
        loaded = load(config.start, dtype="float32", device=str(device))
        check(loaded.model)
        check_length(data, loaded.model)
        return loaded.model, loaded.tokenizer
    tokenizer = _tokenizer(config, texts, extra)
    fields = fitted(shape_of(config), tokenizer)
    with torch.device("meta"):
        planned = make_model(fields)
    check(planned)
    check_tokenizer(tokenizer, planned, source="model.vocab_size")
    check_length(data, planned)
    refuse_if_too_large(static_memory(planned), device)
    return make_model(fields).to(device), tokenizer


def media_of(config: OriginConfig, data: FilesConfig, medium: Medium, model: Any) -> Media:
    """Files as the model reads them: as its checkpoint says, where it comes from one, or as its shape asks for."""
    folder = find(config.start) if config.start is not None else None
    return Media(preprocessor(medium, folder, model.config, data.preprocessor), data)


def check_encoder(model: Any) -> None:
    """Refuse what is no encoder of text.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(model, Bert | WithHead):
        raise ConfigError("is no encoder of text", field="model", value=model.config.model_type, hint="bert or roberta")


def _tokenizer(config: OriginConfig, texts: Iterable[str], extra: tuple[str, ...]) -> Tokenizer:
    """The run's own where it goes on, the one that was given, or one trained on the texts."""
    if (config.out / "last").exists():
        return load_tokenizer(config.out / "last")
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    recipe = config.train_tokenizer
    recipe = recipe.model_copy(update={"extra": tuple(dict.fromkeys((*recipe.extra, *extra)))})
    with step("training a tokeniser"):
        return train_tokenizer(texts, recipe)


def shape_of(config: OriginConfig) -> dict[str, Any]:
    """What a fresh model is asked to be; of a family that is not named, the recipe's own."""
    return {**type(config).model_fields["model"].default, **config.model}


def fitted(shape: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """A shape, with the fields of the family's configuration that the tokeniser decides and the shape does not state."""
    if not is_known(shape["model_type"]):
        return shape  # `make_model` says so
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    start = next(id for id in (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, 0) if id is not None)
    unknown = next(id for id in (tokenizer.unk_id, tokenizer.pad_id, tokenizer.eos_id, 0) if id is not None)
    media = {f"{kind}_token_id": tokenizer.special.get(token) for kind, token in TOKENS.items()}
    decided = {
        "vocab_size": tokenizer.vocab_size,
        "decoder_start_token_id": start,
        "unk_token_id": unknown,
        **ids,
        **media,
    }
    decided = {name: id for name, id in decided.items() if id is not None}
    return _filled(config_class(families()[shape["model_type"]]), shape, decided)


def _filled(config: type[Config], stated: dict[str, Any], decided: dict[str, Any]) -> dict[str, Any]:
    """The stated values, and of the decided ones those that the configuration, or one within it, has fields for."""
    found = {name: id for name, id in decided.items() if name in config.model_fields} | stated
    for name, field in config.model_fields.items():
        inner = found.get(name, {})
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config) and isinstance(inner, dict):
            found |= {name: filled} if (filled := _filled(field.annotation, inner, decided)) else {}
    return found
