"""The recipe behind `cutaway generate`: one prompt, one model, streamed."""

from collections.abc import Iterator

from pydantic import Field, field_validator, model_validator

from cutaway.core.config import Config
from cutaway.decode.beam import Beam, Hypothesis
from cutaway.decode.sampling import Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Output, Request
from cutaway.models.load import Loaded
from cutaway.text.chat import ChatRenderer
from cutaway.text.tokenizer import Tokenizer


class GenerateConfig(Config):
    """Settings of one continuation."""

    chat: bool = Field(False, description="the prompt is a message to an assistant, not the beginning of a text")
    system: str = Field("", description="the system message; with chat")
    max_tokens: int | None = Field(256, ge=1, description="new tokens at most; null: as many as the context holds")
    stop: tuple[str, ...] = Field((), description="strings that end the text")
    sampling: Sampling = Sampling()
    beam: Beam | None = Field(None, description="beam search in place of sampling")
    dtype: str = Field("auto", description="auto, float32, bfloat16, float16; stored: the blocks of a .gguf file")
    device: str = Field("auto", description="auto, cpu, cuda …")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _one_way(self) -> "GenerateConfig":
        if self.system and not self.chat:
            raise ValueError("a system message needs chat=true")
        if self.beam and self.sampling != Sampling():
            raise ValueError("beam search takes no sampling settings")
        if self.beam and self.stop:
            raise ValueError("beam search takes no stop strings")
        return self


def prompt_ids(tokenizer: Tokenizer, prompt: str, config: GenerateConfig) -> list[int]:
    """The tokens that the model continues: the rendered conversation, or the text with BOS where the tokeniser adds one."""
    if config.chat:
        system = [{"role": "system", "content": config.system}] if config.system else []
        return (
            ChatRenderer(tokenizer).render([*system, {"role": "user", "content": prompt}], generation_prompt=True).ids
        )
    start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    return [*start, *tokenizer.encode(prompt)]


def stream(loaded: Loaded, ids: list[int], config: GenerateConfig) -> Iterator[Output]:
    """The outputs of one request, as they come."""
    engine = Engine(loaded, EngineConfig(max_batch=1))
    engine.add(Request(ids, config.sampling, config.max_tokens, config.stop))
    while not engine.idle:
        yield from engine.step()


def beams(loaded: Loaded, ids: list[int], config: GenerateConfig) -> list[Hypothesis]:
    """The best sequences of a beam search, best first."""
    assert config.beam is not None
    engine = Engine(loaded, EngineConfig(max_batch=1))
    return engine.beam(ids, config.beam, config.max_tokens or engine.context - len(ids))
