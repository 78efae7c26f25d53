"""What every request passes before any route: its host, the key, the size of its body, whether the server is stopping."""

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.serve.config import ServeConfig
from cutaway.serve.errors import error_response
from cutaway.serve.hosts import answers_to
from cutaway.serve.metrics import Metrics
from cutaway.serve.request_log import note, request_id
from cutaway.text.tokenizer import Tokenizer

Headers = Mapping[bytes, bytes]


@dataclass
class Traffic:
    """Requests being answered, and whether new ones are let in."""

    active: int = 0
    draining: bool = False


class Guard:
    """ASGI middleware.

    Args:
        is_open: paths that need no key and may be asked while the server stops.
        texts: for the log, where it shall hold what people write.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        traffic: Traffic,
        metrics: Metrics,
        is_open: Callable[[str], bool],
        texts: Tokenizer | None = None,
    ):
        self.app, self.config, self.traffic, self.metrics, self.is_open = app, config, traffic, metrics, is_open
        self.texts = texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.monotonic(), 499
        headers = dict(scope["headers"])
        id = request_id(headers.get(b"x-request-id"))

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id.encode())]
            await send(message)

        self.traffic.active += 1
        try:
            refusal = self._misdirected(headers)
            if refusal is None and not self.is_open(scope["path"]):
                refusal = self._refuse(scope, headers)
            await (refusal or self.app)(scope, self._limited(receive), watched)
        finally:
            self.traffic.active -= 1
            route, seconds = getattr(scope.get("route"), "path", "other"), time.monotonic() - started
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            note(scope, id, status, seconds, self.texts)

    def _misdirected(self, headers: Headers) -> ASGIApp | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if answers_to(host, self.config.host, self.config.allowed_hosts):
            return None
        return error_response(
            421, f"this server does not answer to the name {host[:200]!r}: use its address, or add it to allowed_hosts"
        )

    def _refuse(self, scope: Scope, headers: Headers) -> ASGIApp | None:
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
