"""One process of a run fails: the others stop too, and say which it was and why.

A process that raises an error leaves a note of it where all have met, before it ends. The others find their exchange with it
broken, and read the note. Who was killed leaves none: then the roll is called, and who does not answer is named.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from cutaway.core.distributed import rank, size
from cutaway.core.errors import CutawayError, LostProcessError

_NOTE, _HERE = "cutaway/failed", "cutaway/here"
_ROLL_CALL_S = 3.0  # those that are alive are at most a block of the model away from finding out


@contextmanager
def shared_failures() -> Iterator[None]:
    """Inside (or in a function decorated so), the failure of any process of the run becomes that of all.

    Raises:
        LostProcessError: another one failed. What is raised here for any other reason goes through as it is.
    """
    try:
        yield
    except Exception as err:
        if size() == 1:
            raise
        store = dist.distributed_c10d._get_default_store()
        if not _is_broken_exchange(err):
            store.compare_set(_NOTE, "", f"{rank()} {_said(err)}")  # the first note stays
            raise
        raise _lost(store, err) from err


def _said(err: Exception) -> str:
    """As the process that failed says it itself."""
    return str(err) if isinstance(err, CutawayError) else f"{type(err).__name__}: {err}"


def _is_broken_exchange(err: Exception) -> bool:
    """Whether an exchange with other processes failed; gloo raises plain `RuntimeError`s, which name its files."""
    return isinstance(err, dist.DistError) or (isinstance(err, RuntimeError) and "gloo" in str(err))


def _lost(store: dist.Store, err: Exception) -> LostProcessError:
    """What there is to say about the failure of another process."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which torchrun sends to all when one has failed
    missing = set(range(size()))
    try:
        store.set(f"{_HERE}/{rank()}", "")
        until = time.monotonic() + _ROLL_CALL_S
        while missing and time.monotonic() < until and not store.check([_NOTE]):
            time.sleep(0.05)
            missing = {one for one in missing if not store.check([f"{_HERE}/{one}"])}
        if store.check([_NOTE]):
            who, _, why = store.get(_NOTE).decode().partition(" ")
            return LostProcessError(f"process {who} of {size()} failed: {why}")
    except dist.DistError:
        return LostProcessError("the process in which all met is gone (process 0, or torchrun itself)")
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        return LostProcessError(f"process {names} of {size()} died without a word: killed, or out of memory")
    return LostProcessError(f"the exchange between the processes broke: {err}")
