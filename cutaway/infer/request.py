"""What goes into the engine and what comes out; no tensors."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cutaway.decode.grammar import Grammar
from cutaway.decode.sampling import Sampling

FinishReason = Literal["stop", "length", "cancelled", "error"]
_numbers = itertools.count()


@dataclass(frozen=True)
class Request:
    """One continuation to make.

    Args:
        prompt_ids: the prompt, at least one token.
        sampling: how tokens are chosen.
        max_tokens: new tokens at most; None: as many as the context holds.
        stop: strings that end the text; they are not part of it.
        logprobs: None, or how many alternatives to report with each token. They are log-probabilities of the model's own
            distribution, before penalties, temperature and filters.
        opening: tokens that the reply begins with, whatever the model would have said; they count as generated.
        ignore_end: go on after end-of-turn tokens (for measuring).
        inputs: what the model reads besides the ids of the prompt (images and sounds of `models.omni`): tensors by the names of
            its arguments, whose first axis is the position.
        n: replies; each has a seed of its own, counted on from that of `sampling`.
        priority: a lower number goes first.
        prompt_logprobs: None, or how many alternatives to report with each token of the prompt.
        adapter: which of the engine's adapters the model has; none by default.
        grammar: what the reply must be, compiled.
        cache_salt: requests with different ones share nothing in the cache.
    """

    prompt_ids: Sequence[int]
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    max_tokens: int | None = 256
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    opening: tuple[int, ...] = ()
    ignore_end: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    n: int = 1
    priority: int = 0
    prompt_logprobs: int | None = None
    cache_salt: str = ""
    adapter: str = ""
    grammar: Grammar | None = None
    id: str = field(default_factory=lambda: f"req-{next(_numbers)}")


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability (natural) of a token, and of the likeliest alternatives, best first."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Output:
    """What one step brought to one reply.

    Args:
        token_id: the new token; None where the step only ended the request.
        text: the text that became certain; a stop string or half a character may hold it back.
        finish_reason: set on the last output of a reply.
        error: why, when the reason is `error`.
        index: which of the request's replies.
        cached_tokens: on the first output, how many tokens of the prompt were in the cache already.
        prompt_logprobs: on the first output, if they are asked for; None for the first token.
    """

    request_id: str
    token_id: int | None
    text: str
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None
    index: int = 0
    cached_tokens: int | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """A finished continuation: the outputs of one reply, put together."""

    ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[TokenLogprob]
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    cached_tokens: int = 0
