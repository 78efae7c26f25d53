"""`POST /v1/completions`."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from cutaway.infer.request import Output
from cutaway.serve.protocol import CompletionRequest
from cutaway.serve.service import Replies, Service
from cutaway.serve.stream import EventStream, unless_disconnected


def completion_routes(service: Service) -> APIRouter:
    """The route, on this service."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> EventStream | dict[str, Any]:
        service.check_model(body.model)
        tokenizer = service.tokenizer
        start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
        prompts = [
            [*start, *tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt for prompt in body.prompts
        ]
        replies = service.submit(prompts, body, max_tokens=body.max_tokens, logprobs=body.logprobs)
        echoed = [
            prompt if isinstance(prompt, str) else tokenizer.decode(prompt, skip_special=False)
            for prompt in body.prompts
        ]
        reply = CompletionReply(service, body, replies, echoed)
        if body.stream:
            return EventStream(reply.chunks(), replies, service.config.ping)
        return await unless_disconnected(request, reply.whole(), replies)

    return router


class CompletionReply:
    """The continuations of one request, in the shapes of OpenAI's API."""

    def __init__(self, service: Service, body: CompletionRequest, replies: Replies, echoed: list[str]):
        self.service, self.body, self.replies, self.echoed = service, body, replies, echoed
        self.head = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.loaded.name,
        }
        self._offsets = [0] * len(replies.requests)

    async def whole(self) -> dict[str, Any]:
        async for _ in self.replies:
            pass
        choices = [self._choice(index, outputs, whole=True) for index, outputs in enumerate(self.replies.outputs)]
        return {**self.head, "choices": choices, "usage": self.replies.usage}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        begun: set[int] = set()
        async for index, output in self.replies:
            yield {**self.head, "choices": [self._choice(index, [output], whole=index not in begun)]}
            begun.add(index)
        if self.body.stream_options.include_usage:
            yield {**self.head, "choices": [], "usage": self.replies.usage}

    def _choice(self, index: int, outputs: list[Output], whole: bool) -> dict[str, Any]:
        """Outputs of one continuation as a choice; `whole`: they are its first."""
        text = "".join(output.text for output in outputs)
        if whole and self.body.echo:
            text = self.echoed[index // self.body.n] + text
        return {
            "index": index,
            "text": text,
            "logprobs": None if self.body.logprobs is None else self._logprobs(index, outputs),
            "finish_reason": outputs[-1].finish_reason,
        }

    def _logprobs(self, index: int, outputs: list[Output]) -> dict[str, Any]:
        """Parallel lists; `text_offset` counts the characters of the tokens before."""
        tokenizer = self.service.tokenizer
        found = [one.logprob for one in outputs if one.logprob and one.logprob.id not in tokenizer.end_ids]
        tokens = [tokenizer.token_text(one.id) for one in found]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [{tokenizer.token_text(id): logprob for id, logprob in one.top} for one in found],
            "text_offset": offsets,
        }
