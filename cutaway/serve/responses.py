"""`POST /v1/responses`: the common part of OpenAI's Responses API, on the replies of chat.

A whole response is what the last event of the streamed one holds.
"""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from cutaway.core.errors import CutawayError
from cutaway.serve.chat import ChatReply, begin_reply
from cutaway.serve.responses_protocol import ResponsesRequest, renamed
from cutaway.serve.service import Service
from cutaway.serve.stream import EventStream, unless_disconnected
from cutaway.serve.tool_calls import Arguments, CallBegins, Piece, Text

Event = dict[str, Any]


def response_routes(service: Service) -> APIRouter:
    """The route, on this service."""
    router = APIRouter()

    @router.post("/v1/responses", response_model=None)
    async def respond(body: ResponsesRequest, request: Request) -> EventStream | dict[str, Any]:
        service.check_model(body.model)
        try:
            reply = await begin_reply(service, body.chat())
        except CutawayError as err:
            err.field = renamed(err.field)
            raise
        request.scope["replies"] = reply.replies
        response = Response(body, reply)
        if body.stream:
            return EventStream(response.events(), reply.replies, service.config.ping, named=True)
        return await unless_disconnected(request, response.whole(), reply.replies)

    return router


class Response:
    """One response: items of text and calls, as they come."""

    def __init__(self, body: ResponsesRequest, reply: ChatReply):
        self.body, self.reply = body, reply
        self._id, self._created = f"resp_{uuid4().hex}", int(time.time())
        self._items: list[dict[str, Any]] = []
        self._open = False

    async def whole(self) -> dict[str, Any]:
        """The response when it is complete."""
        last: Event = {}
        async for event in self.events():
            last = event
        return last["response"]

    async def events(self) -> AsyncIterator[Event]:
        """What happens, numbered."""
        number = 0
        async for event in self._events():
            yield {**event, "sequence_number": number}
            number += 1

    async def _events(self) -> AsyncIterator[Event]:
        yield {"type": "response.created", "response": self._told("in_progress")}
        yield {"type": "response.in_progress", "response": self._told("in_progress")}
        reason = None
        async for _, output, pieces in self.reply.pieces():
            for piece in pieces:
                for event in self._write(piece):
                    yield event
            reason = output.finish_reason
        for event in self._write(Text("")) if not self._items else ():
            yield event
        cut = reason == "length"
        for event in self._close("incomplete" if cut else "completed"):
            yield event
        status = "incomplete" if cut else "completed"
        yield {"type": f"response.{status}", "response": self._told(status)}

    def _write(self, piece: Piece) -> list[Event]:
        events: list[Event] = []
        kind = "message" if isinstance(piece, Text) else "function_call"
        if isinstance(piece, CallBegins) or not self._open or self._items[-1]["type"] != kind:
            events += self._close()
            events += self._begin(piece)
        item, place = self._items[-1], self._place()
        if isinstance(piece, Text) and piece.text:
            item["content"][0]["text"] += piece.text
            more = {"content_index": 0, "delta": piece.text, "logprobs": []}
            events.append({"type": "response.output_text.delta", **place, **more})
        elif isinstance(piece, Arguments):
            item["arguments"] += piece.text
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": piece.text})
        return events

    def _begin(self, piece: Piece) -> list[Event]:
        self._open = True
        if isinstance(piece, CallBegins):
            call = {"call_id": piece.id, "name": piece.name, "arguments": ""}
            self._items.append({"id": f"fc_{uuid4().hex}", "type": "function_call", "status": "in_progress", **call})
            return [self._item_event("added")]
        self._items.append(
            {"id": f"msg_{uuid4().hex}", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        )
        added = self._item_event("added")
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._items[-1]["content"].append(part)
        begun = {"type": "response.content_part.added", **self._place(), "content_index": 0, "part": dict(part)}
        return [added, begun]

    def _close(self, status: str = "completed") -> list[Event]:
        if not self._open:
            return []
        self._open = False
        item, place = self._items[-1], self._place()
        item["status"] = status
        if item["type"] == "function_call":
            told = {"name": item["name"], "arguments": item["arguments"]}
            done = [{"type": "response.function_call_arguments.done", **place, **told}]
        else:
            part, place = dict(item["content"][0]), {**place, "content_index": 0}
            done = [
                {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", **place, "part": part},
            ]
        return [*done, self._item_event("done")]

    def _item_event(self, what: str) -> Event:
        item = self._items[-1]
        copied = {**item, "content": [dict(part) for part in item["content"]]} if "content" in item else dict(item)
        return {"type": f"response.output_item.{what}", "output_index": len(self._items) - 1, "item": copied}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}

    def _told(self, status: str) -> dict[str, Any]:
        body, [request] = self.body, self.reply.replies.requests
        ended = status != "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions or None,
            "max_output_tokens": body.max_output_tokens,
            "model": self.reply.head["model"],
            "output": [dict(item) for item in self._items],
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": None,
            "store": False,
            "temperature": request.sampling.temperature,
            "text": body.text.model_dump(by_alias=True, exclude_none=True),
            "tool_choice": body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.model_dump(),
            "tools": [tool.model_dump() for tool in body.tools],
            "top_p": request.sampling.top_p,
            "truncation": "disabled",
            "metadata": {},
            "usage": self._usage() if ended else None,
        }

    def _usage(self) -> dict[str, Any]:
        usage = self.reply.replies.usage
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }
