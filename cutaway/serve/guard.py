"""What every request passes before any route: the key, the size of its body, whether the server is stopping."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.serve.config import ServeConfig
from cutaway.serve.errors import error_response
from cutaway.serve.metrics import Metrics


@dataclass
class Traffic:
    """Requests being answered, and whether new ones are let in."""

    active: int = 0
    draining: bool = False


class Guard:
    """ASGI middleware.

    Args:
        is_open: paths that need no key and may be asked while the server stops.
    """

    def __init__(
        self, app: ASGIApp, config: ServeConfig, traffic: Traffic, metrics: Metrics, is_open: Callable[[str], bool]
    ):
        self.app, self.config, self.traffic, self.metrics, self.is_open = app, config, traffic, metrics, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.monotonic(), 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.traffic.active += 1
        try:
            refusal = None if self.is_open(scope["path"]) else self._refuse(scope)
            await (refusal or self.app)(scope, self._limited(receive), watched)
        finally:
            self.traffic.active -= 1
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - started)

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        headers = dict(scope["headers"])
        key = self.config.api_key
        if key is not None and not hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {key}".encode()):
            return error_response(
                401, "this server wants its API key: Authorization: Bearer KEY", None, "invalid_api_key"
            )
        if self.traffic.draining:
            return error_response(503, "the server is stopping", retry_after=self.config.retry_after)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.config.max_body:
            return error_response(413, self._too_large)
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Count what arrives: a body sent in chunks does not tell its length."""
        left = self.config.max_body

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large)
            return message

        return limited

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self.config.max_body} bytes"
