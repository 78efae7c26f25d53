"""Settings of the server."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from cutaway.core.config import Config, load_config, make_config
from cutaway.infer.engine import EngineConfig


class ServeConfig(Config):
    """Where it listens, who may ask, and how much it takes on."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, lt=65536, description="0: any free port")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="names it answers to besides its own address; on a loopback address, only to such names and these",
    )
    api_key: str | None = Field(None, min_length=1, repr=False, description="what every request must show; null: none")
    labs: Path | None = Field(None, description="folder written by `cutaway labs run`, for the gallery")
    engine: EngineConfig = EngineConfig()
    quote_first: bool = Field(True, description="a grounded reply begins with the passages' nearest sentence")
    max_waiting: int = Field(64, ge=0, description="replies that may wait for a place; more are answered 429")
    retry_after: int = Field(2, ge=1, description="seconds, told with a 429 or 503")
    max_body: int = Field(8 * 2**20, ge=1024, description="bytes of a request")
    max_n: int = Field(16, ge=1, description="replies per request")
    max_tokens: int = Field(0, ge=0, description="new tokens per reply; 0: as many as the context holds")
    max_stop: int = Field(16, ge=1, description="stop strings per request")
    max_stop_chars: int = Field(1024, ge=1, description="characters of a stop string")
    max_schema: int = Field(65_536, ge=256, description="characters of a schema, or of what else a reply must follow")
    max_logit_bias: int = Field(1024, ge=1, description="tokens with a bias per request")
    max_inputs: int = Field(256, ge=1, description="texts per request for embeddings")
    max_view_tokens: int = Field(64, ge=1, description="tokens of a text that the whole model is looked at on")
    log_requests: bool = Field(True, description="a line of JSON per request on standard error")
    log_texts: bool = Field(False, description="with prompts and replies in it")
    ping: float = Field(15, gt=0, description="seconds between signs of life on a quiet stream")


def read_settings(
    settings: Sequence[str], file: Path | None = None, *, api_key: str | None = None, **flags: object
) -> ServeConfig:
    """The configuration of a file, the flags of a command that were given (the others are None), and `key=value` settings.

    Raises:
        ConfigError: as `load_config`.
    """
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    config = load_config(ServeConfig, file, [*given, *settings])
    # Not through YAML: a key may look like a number.
    return config if api_key is None else make_config(ServeConfig, {**config.model_dump(), "api_key": api_key})
