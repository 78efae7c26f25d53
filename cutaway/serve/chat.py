"""`POST /v1/chat/completions`."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.grammar import Grammar
from cutaway.infer.request import Output, TokenLogprob
from cutaway.retrieve import answer as grounded
from cutaway.retrieve.answer import Grounding
from cutaway.serve.grounding import explain, put_passages
from cutaway.serve.protocol import ChatRequest
from cutaway.serve.service import Replies, Service
from cutaway.serve.stream import EventStream, unless_disconnected
from cutaway.serve.structured import constraint_of
from cutaway.serve.tool_calls import Arguments, CallBegins, Piece, Text
from cutaway.serve.tools import ToolUse
from cutaway.text.chat import CHATML
from cutaway.text.tokenizer import Tokenizer


def chat_routes(service: Service) -> APIRouter:
    """The route, on this service."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> EventStream | dict[str, Any]:
        service.check_model(body.model)
        reply = await begin_reply(service, body)
        request.scope["replies"] = reply.replies
        if body.stream:
            return EventStream(reply.chunks(), reply.replies, service.config.ping)
        return await unless_disconnected(request, reply.whole(), reply.replies)

    return router


async def begin_reply(service: Service, body: ChatRequest) -> "ChatReply":
    """Have a conversation continued.

    Raises:
        CutawayError: what is wrong with the request.
    """
    use = ToolUse(body, service.tokenizer.chat_template or CHATML)
    messages = use.messages(body.messages)
    grounding = await put_passages(service, messages, body.documents) if body.documents else None
    grammar = await _grammar(service, body, use)
    asked = grounding.messages if grounding else messages
    rendered = await asyncio.to_thread(service.renderer.render, asked, use.offered(), generation_prompt=True)
    return ChatReply(service, body, _replies(service, body, rendered.ids, grounding, grammar), grounding, use)


async def _grammar(service: Service, body: ChatRequest, use: ToolUse) -> Grammar | None:
    constraint = use.constraint()
    if not constraint:
        return await service.grammar_of(body)
    if constraint_of(body):
        raise RequestError("does not go with calls that follow schemas", field=constraint_of(body)[0])  # type: ignore[index]
    try:
        return await service.compile("tools", constraint)
    except RequestError:
        for field, part in use.parts():  # the one that is refused has a name
            await service.compile(field, part)
        raise


def _replies(
    service: Service, body: ChatRequest, ids: list[int], grounding: Grounding | None, grammar: Grammar | None
) -> Replies:
    """Have the prompt continued, unless the documents are known to hold no answer; the request is checked either way."""
    settings: dict[str, Any] = {"max_tokens": body.limit, "logprobs": body.alternatives, "grammar": grammar}
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

    def __init__(
        self, service: Service, body: ChatRequest, replies: Replies, grounding: Grounding | None, use: ToolUse
    ):
        self.service, self.body, self.replies, self.grounding = service, body, replies, grounding
        self._parsers = [use.parser() for _ in replies.outputs]
        self.head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": replies.model}

    async def whole(self) -> dict[str, Any]:
        """`chat.completion`."""
        pieces: list[list[Piece]] = [[] for _ in self.replies.outputs]
        async for index, _, brought in self.pieces():
            pieces[index] += brought
        choices = [
            {
                "index": index,
                "message": message_of(pieces[index]),
                "finish_reason": self.finish_reason(index, outputs[-1]),
                "logprobs": self._logprobs([output.logprob for output in outputs if output.logprob]),
            }
            for index, outputs in enumerate(self.replies.outputs)
        ]
        return {
            **self.head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self.replies.usage,
            "cutaway": self._cutaway(),
        }

    async def pieces(self) -> AsyncIterator[tuple[int, Output, list[Piece]]]:
        """Which reply, the output, and the text and calls that it brought."""
        async for index, output in self.replies:
            parser = self._parsers[index]
            brought = parser.push(output.text) + (parser.flush() if output.finish_reason else [])
            self.service.metrics.tool_calls.inc(sum(isinstance(piece, CallBegins) for piece in brought))
            yield index, output, brought

    def finish_reason(self, index: int, output: Output) -> str | None:
        """Why a reply ended, if it did."""
        called = output.finish_reason == "stop" and self._parsers[index].called
        return "tool_calls" if called else output.finish_reason

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """`chat.completion.chunk`s."""
        for index in range(self.body.n):
            yield self._chunk([_delta(index, {"role": "assistant", "content": ""})])
        async for index, output, pieces in self.pieces():
            logprobs = self._logprobs([output.logprob]) if output.logprob else None
            deltas = [delta_of(piece) for piece in pieces]
            if not deltas and logprobs and logprobs["content"]:
                deltas = [{"content": ""}]
            for delta in deltas:
                yield self._chunk([_delta(index, delta, logprobs)])
                logprobs = None
            if output.finish_reason:
                yield self._chunk([_delta(index, {}, finish_reason=self.finish_reason(index, output))])
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
            if request.grammar:
                told["grammar"] = request.grammar.constraint.model_dump()
        if self.grounding:
            text = "".join(output.text for output in outputs)
            told |= explain(self.grounding, text)
        return told


def message_of(pieces: Sequence[Piece]) -> dict[str, Any]:
    """A whole message."""
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    begun = [piece for piece in pieces if isinstance(piece, CallBegins)]
    if not begun:
        return {"role": "assistant", "content": text}
    arguments = dict.fromkeys(range(len(begun)), "")
    for piece in pieces:
        if isinstance(piece, Arguments):
            arguments[piece.index] += piece.text
    calls = [
        {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": arguments[one.index]}}
        for one in begun
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def delta_of(piece: Piece) -> dict[str, Any]:
    """What a piece adds to a streamed message."""
    if isinstance(piece, Text):
        return {"content": piece.text}
    call: dict[str, Any] = {"index": piece.index}
    if isinstance(piece, CallBegins):
        call |= {"id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": ""}}
    else:
        call["function"] = {"arguments": piece.text}
    return {"tool_calls": [call]}


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
