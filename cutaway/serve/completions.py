"""`POST /v1/completions`."""

import codecs
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from cutaway.infer.request import Output, TokenLogprob
from cutaway.serve.protocol import CompletionRequest
from cutaway.serve.service import Replies, Service
from cutaway.serve.stream import EventStream, unless_disconnected
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt as it was sent and as the model reads it.

    Args:
        ids: with the begin-of-text token before a text, where the tokeniser adds one.
        added: how many of `ids` stand for nothing that was sent.
    """

    sent: str | list[int]
    ids: list[int]
    added: int = 0

    @classmethod
    def read(cls, sent: str | list[int], tokenizer: Tokenizer) -> "Prompt":
        """Encode a text; ids are taken as they are."""
        if not isinstance(sent, str):
            return cls(sent, sent)
        start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
        return cls(sent, [*start, *tokenizer.encode(sent)], len(start))

    def text(self, tokenizer: Tokenizer) -> str:
        """What `echo` puts before the reply."""
        return self.sent if isinstance(self.sent, str) else tokenizer.decode(self.sent, skip_special=False)


def completion_routes(service: Service) -> APIRouter:
    """The route, on this service."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> EventStream | dict[str, Any]:
        service.check_model(body.model)
        prompts = [Prompt.read(sent, service.tokenizer) for sent in body.prompts]
        settings: dict[str, Any] = {"max_tokens": body.max_tokens, "logprobs": body.logprobs}
        settings["grammar"] = await service.grammar_of(body)
        settings["prompt_logprobs"] = body.logprobs if body.echo else None
        replies = service.submit(service.requests([prompt.ids for prompt in prompts], body, **settings))
        request.scope["replies"] = replies
        reply = CompletionReply(service, body, replies, prompts)
        if body.stream:
            return EventStream(reply.chunks(), replies, service.config.ping)
        return await unless_disconnected(request, reply.whole(), replies)

    return router


class CompletionReply:
    """The continuations of one request, in the shapes of OpenAI's API."""

    def __init__(self, service: Service, body: CompletionRequest, replies: Replies, prompts: Sequence[Prompt]):
        self.service, self.body, self.replies, self.prompts = service, body, replies, prompts
        self.head = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": replies.model,
        }
        self._offsets = [Offsets() for _ in replies.outputs]

    async def whole(self) -> dict[str, Any]:
        """One `text_completion` with all choices."""
        async for _ in self.replies:
            pass
        choices = [self._choice(index, outputs, first=True) for index, outputs in enumerate(self.replies.outputs)]
        return {**self.head, "choices": choices, "usage": self.replies.usage}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """`text_completion`s, each with what is new."""
        async for index, output in self.replies:
            first = len(self.replies.outputs[index]) == 1
            yield {**self.head, "choices": [self._choice(index, [output], first)]}
        if self.body.stream_options.include_usage:
            yield {**self.head, "choices": [], "usage": self.replies.usage}

    def _choice(self, index: int, outputs: list[Output], first: bool) -> dict[str, Any]:
        """Outputs of one continuation as a choice; `first`: none came before them."""
        number, tokenizer = index // self.body.n, self.service.tokenizer
        text = "".join(output.text for output in outputs)
        found: list[tuple[int, TokenLogprob | None]] = []
        if first and self.body.echo:
            prompt = self.prompts[number]
            text = prompt.text(tokenizer) + text
            found = list(zip(prompt.ids, outputs[0].prompt_logprobs or (), strict=False))[prompt.added :]
        # Harnesses find the prompt's tokens in an echo by leaving out the last: then the end token is listed too.
        hidden = frozenset() if self.body.echo else tokenizer.end_ids
        found += [(one.logprob.id, one.logprob) for one in outputs if one.logprob and one.logprob.id not in hidden]
        return {
            "index": index,
            "text": text,
            "logprobs": None if self.body.logprobs is None else self._logprobs(index, found),
            "finish_reason": outputs[-1].finish_reason,
        }

    def _logprobs(self, index: int, found: list[tuple[int, TokenLogprob | None]]) -> dict[str, Any]:
        """Parallel lists, null where nothing stands before a token; `text_offset` counts the characters before it."""
        tokenizer = self.service.tokenizer
        offsets = [
            self._offsets[index].before(tokenizer.token_bytes(id) if tokenizer.has(id) else b"") for id, _ in found
        ]
        return {
            "tokens": [self._name(id) for id, _ in found],
            "token_logprobs": [one and one.logprob for _, one in found],
            "top_logprobs": [one and self._likeliest(one) for _, one in found],
            "text_offset": offsets,
        }

    def _likeliest(self, one: TokenLogprob) -> dict[str, float]:
        """Alternatives by name; of several with one name, as parts of characters are, the likeliest."""
        return {self._name(id): logprob for id, logprob in reversed(one.top)}

    def _name(self, id: int) -> str:
        """An id that is no token has no text."""
        tokenizer = self.service.tokenizer
        return tokenizer.token_text(id) if tokenizer.has(id) else ""


class Offsets:
    """Where tokens begin in their text, in characters. A token within a character begins with that character's."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def before(self, token: bytes) -> int:
        """The place of the next token."""
        place = self._characters
        self._characters += len(self._decoder.decode(token))
        return place
