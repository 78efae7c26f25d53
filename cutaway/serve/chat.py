"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from cutaway.core.errors import ContextLengthError
from cutaway.infer.engine import gather
from cutaway.infer.request import TokenLogprob
from cutaway.retrieve import answer as grounded
from cutaway.retrieve.answer import Grounding
from cutaway.serve.grounding import explain, put_passages
from cutaway.serve.protocol import ChatRequest
from cutaway.serve.service import Replies, Service
from cutaway.serve.stream import EventStream, unless_disconnected
from cutaway.text.tokenizer import Tokenizer


def chat_routes(service: Service) -> APIRouter:
    """The route, on this service."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> EventStream | dict[str, Any]:
        service.check_model(body.model)
        messages = [message.plain() for message in body.messages]
        grounding = await put_passages(service, messages, body.documents) if body.documents else None
        replies = _replies(service, body, grounding.messages if grounding else messages, grounding)
        reply = ChatReply(service, body, replies, grounding)
        if body.stream:
            return EventStream(reply.chunks(), replies, service.config.ping)
        return await unless_disconnected(request, reply.whole(), replies)

    return router


def _replies(
    service: Service, body: ChatRequest, messages: list[dict[str, str]], grounding: Grounding | None
) -> Replies:
    """Have the conversation continued, unless the documents are known to hold no answer; the request is checked either way."""
    ids = service.renderer.render(messages, generation_prompt=True).ids
    settings: dict[str, Any] = {"max_tokens": body.limit, "logprobs": body.alternatives}
    if grounding:
        settings["defaults"] = grounded.SAMPLING
        opening = tuple(service.tokenizer.encode(grounding.opening)) if service.config.quote_first else ()
        longest = grounded.longest_reply(opening, service.engine.context - len(ids))
        settings |= {"opening": opening, "max_tokens": body.limit or longest, "stop": (*body.stops, *grounded.STOP)}
    try:
        requests = service.requests([ids], body, **settings)
    except ContextLengthError as err:
        err.field = "messages" if err.field == "prompt" else err.field
        raise
    if grounding and not grounding.answerable:
        return service.say(requests[0], grounding.refusal)
    return service.submit(requests)


class ChatReply:
    """The reply to one request, in the shapes of OpenAI's API."""

    def __init__(self, service: Service, body: ChatRequest, replies: Replies, grounding: Grounding | None):
        self.service, self.body, self.replies, self.grounding = service, body, replies, grounding
        self.head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": service.loaded.name}

    async def whole(self) -> dict[str, Any]:
        """`chat.completion`."""
        async for _ in self.replies:
            pass
        choices = []
        for index, outputs in enumerate(self.replies.outputs):
            done = gather(outputs)
            choices.append(
                {
                    "index": index,
                    "message": {"role": "assistant", "content": done.text},
                    "finish_reason": done.finish_reason,
                    "logprobs": self._logprobs(done.logprobs),
                }
            )
        return {
            **self.head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self.replies.usage,
            "cutaway": self._cutaway(),
        }

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """`chat.completion.chunk`s."""
        for index in range(self.body.n):
            yield self._chunk([_delta(index, {"role": "assistant", "content": ""})])
        async for index, output in self.replies:
            logprobs = self._logprobs([output.logprob]) if output.logprob else None
            if output.text or (logprobs and logprobs["content"]):
                yield self._chunk([_delta(index, {"content": output.text}, logprobs)])
            if output.finish_reason:
                yield self._chunk([_delta(index, {}, finish_reason=output.finish_reason)])
        yield self._chunk([], cutaway=self._cutaway())
        if self.body.stream_options.include_usage:
            yield self._chunk([], usage=self.replies.usage)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**self.head, "object": "chat.completion.chunk", "choices": choices, **more}

    def _logprobs(self, found: list[TokenLogprob]) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        tokenizer = self.service.tokenizer
        return {"content": [token_logprob(tokenizer, one) for one in found if one.id not in tokenizer.end_ids]}

    def _cutaway(self) -> dict[str, Any]:
        told: dict[str, Any] = self.replies.timings
        [request, *_], [outputs, *_] = self.replies.requests, self.replies.outputs
        if self.body.inspect:
            written = [output.token_id for output in outputs if output.token_id is not None]
            told["ids"] = [*request.prompt_ids, *written]
            told["prompt_length"] = len(request.prompt_ids)
            told["sampling"] = request.sampling.model_dump(exclude_defaults=True, mode="json")
        if self.grounding:
            text = "".join(output.text for output in outputs)
            told |= explain(self.grounding, text)
        return told


def token_logprob(tokenizer: Tokenizer, one: TokenLogprob) -> dict[str, Any]:
    """One entry of `logprobs.content`."""

    def entry(id: int, logprob: float) -> dict[str, Any]:
        text, raw = (tokenizer.token_text(id), tokenizer.token_bytes(id)) if tokenizer.has(id) else ("", b"")
        return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(raw)}

    return {**entry(one.id, one.logprob), "top_logprobs": [entry(id, logprob) for id, logprob in one.top]}


def _delta(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
