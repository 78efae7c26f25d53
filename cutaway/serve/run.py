"""Run the application until it is told to stop; the first signal drains it, the second ends it."""

import asyncio
import socket
from collections.abc import Callable
from errno import EACCES, EADDRINUSE
from types import FrameType

import uvicorn
from fastapi import FastAPI

from cutaway.core.errors import ResourceError
from cutaway.serve import request_log
from cutaway.serve.config import ServeConfig


class Server(uvicorn.Server):
    """uvicorn, except that it goes on listening while it drains, so that new requests are told 503."""

    def __init__(self, app: FastAPI, ready: Callable[[], None]):
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False))
        self._traffic, self._ready = app.state.traffic, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; at the second signal, end at once."""
        if self._traffic.draining:
            self.should_exit = self.force_exit = True
        self._traffic.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end: when the last request of a draining server is answered."""
        self.should_exit = self.should_exit or (self._traffic.draining and not self._traffic.active)
        return await super().on_tick(counter)


def run(app: FastAPI, config: ServeConfig, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal; `ready` gets the address once requests are answered there and signals are heeded.

    Raises:
        ResourceError: the address is taken or not this machine's.
    """
    if config.log_requests:
        request_log.to_stderr()
    sock = _bind(config)
    with sock:
        host = f"[{config.host}]" if ":" in config.host else config.host
        url = f"http://{host}:{sock.getsockname()[1]}"
        asyncio.run(Server(app, lambda: ready(url)).serve([sock]))


def _bind(config: ServeConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((config.host, config.port))
        sock.listen(128)  # a client that comes before the application waits instead of failing
    except (OSError, UnicodeError) as err:  # the latter of a name that cannot be one
        where, taken = f"{config.host}:{config.port}", isinstance(err, OSError) and err.errno in (EADDRINUSE, EACCES)
        raise ResourceError(
            f"cannot listen there: {getattr(err, 'strerror', None) or err}",
            field="port" if taken else "host",
            value=where,
            hint="another --port" if taken else "an address of this machine",
        ) from None
    return sock
