"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from cutaway.core.distributed import size

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While this context is open, the first signal sets `requested`; the second does what it always did.

    with StopSignals() as stop:
        while not stop.requested: ...
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            self._before = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, where: TracebackType | None
    ) -> None:
        if err is not None and self._before and size() > 1:
            self._before[signal.SIGTERM] = signal.SIG_IGN  # torchrun ends all when one fails; why is yet to be said
        self._put_back()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._put_back()
        print("\nstopping after this step, then saving; once more to leave at once", file=sys.stderr, flush=True)

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
