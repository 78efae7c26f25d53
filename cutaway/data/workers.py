"""Work on many records by several processes, of this machine or of a Ray cluster. Results come in the order of the records, so
that what is made of them is the same, whoever worked.

    for result in in_order(function, records, WorkersConfig(count=4)): ...    function takes a list of records
"""

import logging
import multiprocessing
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import ResourceError
from cutaway.data.read import Record

R = TypeVar("R")
Submit = Callable[[list[Record]], Callable[[], Any]]
"""Begins the work on a group, and gives what waits for its result."""

_GROUP, _CHARACTERS = 256, 4_000_000  # records of one piece of work, or fewer long ones


class WorkersConfig(Config):
    """Who does the work; it never changes what comes of it. `workers=ray` is short for `workers.kind=ray`, and an address says so
    too."""

    kind: Literal["local", "ray"] = Field("local", description="processes of this machine, or tasks of Ray")
    count: int | None = Field(None, ge=1, description="at a time; null: this process alone, or all processors of Ray's")
    address: str | None = Field(None, description="of a Ray cluster, or auto; null: Ray's own on this machine")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": "ray", **value} if isinstance(value, dict) and value.get("address") else value

    @model_validator(mode="after")
    def _ray_has_an_address(self) -> "WorkersConfig":
        if self.address is not None and self.kind != "ray":
            raise ValueError(f"address={self.address} is of a Ray cluster: workers.kind=ray")
        return self


def in_order(function: Callable[[list[Record]], R], records: Iterable[Record], workers: WorkersConfig) -> Iterator[R]:
    """What `function` makes of every group of records.

    Args:
        function: can be pickled, where others do the work.

    Raises:
        ResourceError: Ray is not installed, no cluster answers, or a worker died. What `function` raises goes through.
    """
    waiting: deque[Callable[[], R]] = deque()
    with _hands(function, workers) as (submit, count):
        for group in _groups(records):
            waiting.append(submit(group))
            if len(waiting) > 2 * count:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    length = 0
    for record in records:
        group.append(record)
        length += len(record.value) if isinstance(record.value, str) else 0
        if len(group) == _GROUP or length >= _CHARACTERS:
            yield group
            group, length = [], 0
    if group:
        yield group


def _hands(function: Callable[..., Any], workers: WorkersConfig) -> AbstractContextManager[tuple[Submit, int]]:
    if workers.kind == "ray":
        return _ray(function, workers)
    return _processes(function, workers.count) if workers.count else _here(function)


@contextmanager
def _here(function: Callable[..., Any]) -> Iterator[tuple[Submit, int]]:
    yield lambda group: partial(function, group), 0


@contextmanager
def _processes(function: Callable[..., Any], count: int) -> Iterator[tuple[Submit, int]]:
    job = pickle.dumps(function)
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        try:
            yield lambda group: pool.submit(_call, job, group).result, count
        except BrokenProcessPool:
            raise ResourceError("a worker died: killed, or out of memory", field="workers.count", value=count) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _ray(function: Callable[..., Any], workers: WorkersConfig) -> Iterator[tuple[Submit, int]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise ResourceError(
            "needs the package ray", field="workers.kind", value="ray", hint="pip install ray"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        where: dict[str, Any] = {"address": workers.address or "local"}
        if workers.address is None:
            where |= {"num_cpus": workers.count, "include_dashboard": False}
        try:
            _knock(workers.address)
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as err:
            raise ResourceError(
                f"no Ray cluster answers: {err}",
                field="workers.address",
                value=workers.address,
                hint="ray start --head; RAY_AUTH_MODE=token where it asks for one",
            ) from None
    task, job = ray.remote(_call), ray.put(pickle.dumps(function))

    def result(reference: Any) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as err:
            raise err.cause from None
        except ray.exceptions.RayError as err:
            raise ResourceError(f"a worker died: {err}", field="workers.kind", value="ray") from None

    try:
        yield (
            lambda group: partial(result, task.remote(job, group)),
            workers.count or int(ray.cluster_resources()["CPU"]),
        )
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Fail at once where nothing listens; Ray would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=5).close()


def _call(job: bytes, group: list[Record]) -> Any:
    return _function(job)(group)


@lru_cache(maxsize=1)  # one tokeniser serves all groups that a worker is given
def _function(job: bytes) -> Callable[[list[Record]], Any]:
    found: Callable[[list[Record]], Any] = pickle.loads(job)  # our own bytes
    return found
