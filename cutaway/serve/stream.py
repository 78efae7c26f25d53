"""Replies on the wire: server-sent events, and whole replies that end when the client leaves."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from cutaway.core.errors import CutawayError
from cutaway.serve.errors import EngineFailed, told
from cutaway.serve.service import Replies

T = TypeVar("T")
log = logging.getLogger(__name__)


class EventStream(EventSourceResponse):
    """Chunks as events; however it ends, nothing of the request outlives it.

    Args:
        ping: seconds of silence before a sign of life.
        named: chunks have a `type`, which is the event's name, and the last says that it is; else `[DONE]` follows it.
    """

    def __init__(self, chunks: AsyncIterator[dict[str, Any]], replies: Replies, ping: float, named: bool = False):
        super().__init__(_events(chunks, named), ping=ping, headers={"X-Accel-Buffering": "no"})
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._replies.submission.close()


async def _events(chunks: AsyncIterator[dict[str, Any]], named: bool) -> AsyncIterator[dict[str, str]]:
    try:
        async for chunk in chunks:
            yield {"data": json.dumps(chunk)} | ({"event": chunk["type"]} if named else {})
        if not named:
            yield {"data": "[DONE]"}
    except Exception as err:  # the status is sent already; the client is told in the stream
        if not isinstance(err, CutawayError | EngineFailed):
            log.exception("a stream failed")
        yield {"data": json.dumps(told(err))}


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T], replies: Replies) -> T:
    """Do the work, or cancel it and what it waits for when the client leaves."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client left")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        replies.submission.close()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
