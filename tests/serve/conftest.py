"""A tiny random chat model behind a real server on 127.0.0.1."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from cutaway.infer.engine import EngineConfig
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

CONTEXT = 160


@pytest.fixture(scope="session")
def loaded(tiny_chat) -> Loaded:
    return tiny_chat(CONTEXT)


@pytest.fixture(scope="session")
def model_folder(loaded, tmp_path_factory) -> Path:
    """The same model as files, for servers in processes of their own."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    save_model(loaded.model, loaded.tokenizer, folder)
    return folder


@dataclass
class Running:
    """A server that runs, and ways to talk to it."""

    app: FastAPI
    url: str
    key: str = "none"

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[Running]]:
    """`with serving(app) as running:` runs an application in a thread."""
    return _serving


@contextmanager
def _serving(app: FastAPI, key: str = "none") -> Iterator[Running]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield Running(app, f"http://127.0.0.1:{sock.getsockname()[1]}", key)
    server.should_exit = True
    thread.join()
    sock.close()


@pytest.fixture(scope="session")
def config() -> ServeConfig:
    return ServeConfig(engine=EngineConfig(max_batch=4), max_waiting=8, max_n=8, max_body=100_000)


@pytest.fixture(scope="session")
def server(loaded, config) -> Iterator[Running]:
    """One server for all tests that do not break it."""
    with _serving(create_app(config, loaded)) as running:
        yield running


@pytest.fixture
def client(server) -> Iterator[openai.OpenAI]:
    with server.client as client:
        yield client


@pytest.fixture
def http(server) -> Iterator[httpx.Client]:
    with server.http as client:
        yield client


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds, ten seconds at most."""

    def wait(holds: Callable[[], bool]) -> None:
        limit = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < limit, "it never came to hold"
            time.sleep(0.01)

    return wait
