"""The thread that owns the engine.

The event loop hands it commands (add, cancel, do this between two steps) through a queue; it hands outputs back. Nothing else
crosses: `Worker` methods and `Submission` belong to the event loop, methods marked "engine thread" to the thread.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, TypeVar

from cutaway.core.errors import BusyError, RequestError
from cutaway.infer.engine import Engine
from cutaway.infer.request import Output, Request
from cutaway.serve.errors import EngineFailed

T = TypeVar("T")
log = logging.getLogger(__name__)


class Load(NamedTuple):
    """How busy the engine is: requests, and positions of the cache."""

    running: int = 0
    waiting: int = 0
    cached_tokens: int = 0


class Submission:
    """Requests that were handed in together; iterating gives `(which, output)` as outputs come.

    `which` counts replies: those to the first request, then those to the next.

    Raises:
        EngineFailed: the engine failed. RequestError: one of the requests cannot go on.
    """

    def __init__(self, worker: "Worker", requests: Sequence[Request]):
        self._worker = worker
        firsts = accumulate((request.n for request in requests), initial=0)
        self._firsts = {request.id: first for request, first in zip(requests, firsts, strict=False)}
        self._running = sum(request.n for request in requests)
        self._outputs: asyncio.Queue[Output | EngineFailed] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Output]]:
        while self._running:
            output = await self._outputs.get()
            if isinstance(output, EngineFailed):
                raise output
            if output.finish_reason == "error":
                raise RequestError(output.error or "failed")
            self._running -= output.finish_reason is not None
            yield self._firsts[output.request_id] + output.index, output

    def put(self, output: Output | EngineFailed) -> None:
        """What came next; whoever iterates gets it."""
        self._outputs.put_nowait(output)

    def close(self) -> None:
        """Cancel what still runs."""
        self._worker.cancel(list(self._firsts))


class Worker:
    """Runs an engine on a thread of its own.

    Args:
        max_waiting: replies that may wait beside those that run.
        on_outputs: called on the event loop with the outputs of each step (for the metrics).
    """

    def __init__(self, engine: Engine, max_waiting: int, on_outputs: Callable[[list[Output]], None] = lambda _: None):
        self.engine, self.load = engine, Load()
        self._capacity = engine.config.max_batch + max_waiting
        self._on_outputs = on_outputs
        self._submissions: dict[str, Submission] = {}
        self._left: Counter[str] = Counter()  # replies of each that are to come
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopped = False
        self._in_engine: Counter[str] = Counter()  # the same, as the engine's thread knows it
        self._thread = Thread(target=self._run, name="cutaway-engine", daemon=True)

    def start(self) -> None:
        """Begin; call it on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End after the step that runs."""
        self._stopped = True
        self._commands.put(lambda: None)
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self._thread.is_alive()

    @property
    def room(self) -> int:
        """How many more replies it would take now."""
        return self._capacity - self._left.total()

    def submit(self, requests: Sequence[Request]) -> Submission:
        """Queue requests, all or none.

        Raises:
            BusyError: no room for all of them now.
        """
        replies = sum(request.n for request in requests)
        if replies > self._capacity:
            raise RequestError(f"asks for more than the server takes at once ({self._capacity})", field="n")
        if replies > self.room:
            raise BusyError("the queue is full; try again shortly")
        submission = Submission(self, requests)
        for request in requests:
            self._submissions[request.id], self._left[request.id] = submission, request.n
            self._commands.put(lambda request=request: self._add(request))  # type: ignore[misc]
        return submission

    def cancel(self, ids: Sequence[str]) -> None:
        """Take requests out before the next step; those that ended already do not matter."""
        for id in ids:
            if self._drop(id):
                self._commands.put(lambda id=id: self._forget(id))  # type: ignore[misc]

    async def call(self, job: Callable[[], T]) -> T:
        """Run a job on the engine's thread, between two steps."""
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = job()
            except Exception as err:
                self._loop.call_soon_threadsafe(settle, None, err)
            else:
                self._loop.call_soon_threadsafe(settle, result, None)

        self._commands.put(run)
        return await future

    def _deliver(self, outputs: list[Output]) -> None:
        self._on_outputs(outputs)
        for output in outputs:
            submission = self._submissions.get(output.request_id)
            if submission:
                submission.put(output)
                self._left[output.request_id] -= output.finish_reason is not None
                if output.finish_reason == "error" or not self._left[output.request_id]:
                    self._drop(output.request_id)

    def _fail(self, ids: Sequence[str], reason: str) -> None:
        for id in ids:
            submission = self._drop(id)
            if submission:
                submission.put(EngineFailed(reason))

    def _drop(self, id: str) -> Submission | None:
        del self._left[id]
        return self._submissions.pop(id, None)

    # Engine thread

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._obey(wait=self.engine.idle)
                if not self.engine.idle:
                    self._step()
                self.load = Load(self.engine.running, self.engine.waiting, self.engine.cached_tokens)
            except Exception as err:
                self._lose(err)

    def _obey(self, wait: bool) -> None:
        if wait:
            self._commands.get()()
        while True:
            try:
                self._commands.get_nowait()()
            except Empty:
                return

    def _step(self) -> None:
        outputs = self.engine.step()
        for output in outputs:
            if output.finish_reason == "error":  # the request's other replies cannot be better
                self._forget(output.request_id)
            elif output.finish_reason:
                self._in_engine[output.request_id] -= 1
        self._in_engine = +self._in_engine
        self._loop.call_soon_threadsafe(self._deliver, outputs)

    def _lose(self, err: Exception) -> None:
        """Whatever failed, requests may be half done: tell all of them, and begin with an empty engine."""
        log.error("the engine failed", exc_info=err)
        lost = sorted(self._in_engine)
        for id in lost:
            with suppress(Exception):  # it may be what failed
                self._forget(id)
        reason = f"the engine failed while this ran: {type(err).__name__}: {err}"
        self._loop.call_soon_threadsafe(self._fail, lost, reason)

    def _add(self, request: Request) -> None:
        self._in_engine[request.id] = request.n
        try:
            self.engine.add(request)
        except RequestError as err:
            del self._in_engine[request.id]
            output = Output(request.id, None, "", None, "error", str(err))
            self._loop.call_soon_threadsafe(self._deliver, [output])

    def _forget(self, id: str) -> None:
        del self._in_engine[id]
        self.engine.cancel(id)
