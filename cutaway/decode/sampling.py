"""How the next token is chosen: the settings, all of them, with their defaults."""

from typing import Annotated

from pydantic import Field, field_validator

from cutaway.core.config import Config
from cutaway.core.errors import RequestError

_LEAST_TEMPERATURE = 1e-6  # dividing by less may overflow, and draws the likeliest token anyway


class Sampling(Config):
    """Settings of one request. The defaults change nothing about the model's distribution; temperature 0 is greedy."""

    temperature: float = Field(1.0, ge=0, le=100, description="logits are divided by it; 0: always the likeliest token")
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the fewest tokens whose probabilities reach p")
    min_p: float = Field(0.0, ge=0, le=1, description="keep tokens at least this fraction as likely as the likeliest")
    typical_p: float = Field(1.0, gt=0, le=1, description="keep the tokens nearest to the entropy that reach p")
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=100, description="seen tokens: positive logits / it, negative × it"
    )
    presence_penalty: float = Field(
        0.0, ge=-100, le=100, description="taken off the logit of a token already generated"
    )
    frequency_penalty: float = Field(0.0, ge=-100, le=100, description="taken off once per time it was generated")
    logit_bias: dict[int, Annotated[float, Field(le=1000)]] = Field(
        {}, description="token id to what is added to its logit; -inf forbids it"
    )
    bad_words: tuple[tuple[int, ...], ...] = Field((), description="token sequences that must not be completed")
    seed: int | None = Field(None, ge=0, lt=2**63, description="of this request alone; None: drawn")

    @field_validator("temperature")
    @classmethod
    def _greedy(cls, temperature: float) -> float:
        return temperature if temperature >= _LEAST_TEMPERATURE else 0.0

    @field_validator("bad_words")
    @classmethod
    def _not_empty(cls, words: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if any(not word for word in words):
            raise ValueError("a bad word has no tokens")
        return words

    def check_ids(self, V: int) -> None:
        """Refuse a token that is not among V.

        Raises:
            RequestError: names the field and the id.
        """
        words = (id for word in self.bad_words for id in word)
        for field, ids in (("logit_bias", self.logit_bias), ("bad_words", words)):
            for id in ids:
                if not 0 <= id < V:
                    raise RequestError("no such token", field=field, value=id, hint=f"0 to {V - 1}")


GREEDY = Sampling(temperature=0)
