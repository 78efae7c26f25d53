"""Running a model of the Llama shape past the length that it was trained on.

    extend(model, Extension(kind="yarn", factor=4))       # 8,192 trained positions: a context of 32,768
    extend(model, read_extension("sinks=16,window=1020"))

Positions are squeezed into the trained range (linear, ntk, dynamic, yarn, llama3: `nn.rope`), or attention never reaches farther
than that (sinks: a sliding window beside the first positions, `nn.sinks`). The weights stay as they are.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config, load_config
from cutaway.core.errors import ConfigError
from cutaway.models.llama import Llama
from cutaway.models.llama_config import LlamaConfig
from cutaway.nn.rope import RopeScaling


class Extension(Config):
    """How, and how far."""

    kind: Literal["linear", "ntk", "dynamic", "yarn", "llama3", "sinks"] = Field(
        description="linear: all frequencies / factor. ntk: a larger base. dynamic: a base that grows with the length. "
        "yarn, llama3: fast pairs as they are, slow ones / factor. sinks: a window, and the first positions"
    )
    factor: float = Field(gt=1, description="how many times the trained context")
    window: int | None = Field(None, gt=0, description="sinks: what a token sees before it; null: the trained context")
    sinks: int = Field(4, ge=0, description="sinks: how many first positions stay visible")

    @model_validator(mode="after")
    def _fits(self) -> "Extension":
        given = self.model_fields_set & {"window", "sinks"}
        if given and self.kind != "sinks":
            raise ValueError(f"{self.kind} takes no {' and no '.join(sorted(given))}")
        return self


def read_extension(text: str) -> Extension:
    """`KIND=FACTOR`, with further fields after commas, as a command takes it.

    >>> read_extension("sinks=16,window=1020")
    Extension(kind='sinks', factor=16.0, window=1020, sinks=4)

    Raises:
        ConfigError: what of it cannot be.
    """
    (kind, sign, factor), *more = (item.strip().partition("=") for item in text.split(","))
    if not sign:
        raise ConfigError("is KIND=FACTOR", field="extend", value=text, hint="for example yarn=4")
    return load_config(Extension, None, [f"kind={kind}", f"factor={factor}", *map("".join, more)])


def extended(config: LlamaConfig, by: Extension) -> LlamaConfig:
    """The configuration of a model of this shape with a longer context.

    Raises:
        ConfigError: its positions are scaled already, or its window and sinks are longer than what it was trained on.
    """
    trained, K = config.context, config.head_dim
    longer = {"max_position_embeddings": int(by.factor * trained)}
    if by.kind == "sinks":
        window = by.window or min(config.sliding_window or trained, trained - by.sinks)
        if not 0 < window <= trained - by.sinks:
            raise ConfigError(
                f"and {by.sinks} sinks are more than the {trained} positions that the model was trained on",
                field="extend.window",
                value=window,
            )
        scaling = config.rope_scaling.model_copy(
            update={"original_max_position_embeddings": config.rope_scaling.original_max_position_embeddings or trained}
        )
        change = {"sliding_window": window, "attention_sinks": by.sinks, "rope_scaling": scaling}
        return config.model_copy(update={**longer, **change})
    if config.rope_scaling.rope_type != "default":
        raise ConfigError(
            f"the model's positions are scaled already ({config.rope_scaling.rope_type})",
            field="extend.kind",
            value=by.kind,
            hint="sinks",
        )
    if by.kind == "ntk":
        return config.model_copy(update={**longer, "rope_theta": config.rope_theta * by.factor ** (K / (K - 2))})
    scaling = RopeScaling(rope_type=by.kind, factor=by.factor, original_max_position_embeddings=trained)
    return config.model_copy(update={**longer, "rope_scaling": scaling})


def extend(model: Any, by: Extension) -> None:
    """Give a loaded model a longer context, in place.

    Raises:
        ConfigError: as `extended`, or the model has no rotary positions of the Llama shape.
    """
    if not isinstance(model, Llama):
        raise ConfigError(
            "only models of the Llama shape can be extended", field="extend", value=model.config.model_type
        )
    model.set_reach(extended(model.config, by))
