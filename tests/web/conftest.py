"""A headless Chromium and the server that it talks to: the real command, in its own process."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

WINDOW = (1360, 900)
CHROMIUM = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
]


@dataclass
class Server:
    """`cutaway serve` in a process of its own."""

    process: subprocess.Popen
    port: int
    key: str | None

    @classmethod
    def start(cls, model: Path, *options: str, key: str | None = None) -> "Server":
        """Serve `model` on a free port, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "cutaway", "serve", str(model), "--port", str(port), *options]
        server = cls(subprocess.Popen(command + (["--api-key", key] if key else [])), port, key)
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(server.url + "health", timeout=5).close()
                return server
            except OSError:
                assert server.process.poll() is None, f"the server ended with {server.process.returncode}"
                assert time.monotonic() < end, "the server did not start"
                time.sleep(0.2)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


class Page:
    """What a test does with the page. Any message in the browser's log that a test did not take is a failure."""

    def __init__(self, driver, server: Server):
        self.driver, self.server = driver, server
        self.run("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        self.run("Page.enable")
        self.script = None

    def open(self, address: str = "", max_tokens: int = 24) -> None:
        """Open the page as one who has never been there; replies are short unless a test wants them long."""
        self.forget()
        self.driver.get("about:blank")
        self.run("Storage.clearDataForOrigin", origin=self.server.url, storageTypes="local_storage")
        setting = f"localStorage['cutaway.sampling'] ??= JSON.stringify({{max_tokens: {max_tokens}, seed: 1}})"
        self.script = self.run("Page.addScriptToEvaluateOnNewDocument", source=setting)["identifier"]
        self.driver.get(self.server.url + address)

    def forget(self) -> None:
        if self.script:
            self.run("Page.removeScriptToEvaluateOnNewDocument", identifier=self.script)
        self.script = None

    def run(self, command: str, **arguments):
        """A command of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def resize(self, width: int, height: int) -> None:
        self.run("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def all(self, selector: str) -> list:
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return self.wait(selector)

    def wait(self, selector: str, seconds: float = 60):
        """The first element that matches, as soon as there is one."""
        end = time.monotonic() + seconds
        while not (found := self.all(selector)):
            assert time.monotonic() < end, (
                f"no {selector} within {seconds} s; the page says: {self.all('body')[0].text}"
            )
            time.sleep(0.02)
        return found[0]

    def ask(self, question: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.wait(".status.ready")
        self.one("#question").send_keys(question, Keys.ENTER)

    def press(self, key: str, on=None) -> None:
        (on or self.driver.switch_to.active_element).send_keys(key)

    def log(self) -> str:
        """The browser's messages since the last time, taken."""
        return "\n".join(entry["message"] for entry in self.driver.get_log("browser"))


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("Chromium is not here (install chromium and chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*CHROMIUM, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    """Two documents that hold the answer to what the tests ask."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "temperature.md").write_text(
        "# Temperature\n\nTemperature divides the logits before the softmax. A temperature below one makes the next-token "
        "distribution sharper; above one it makes it flatter. At zero the likeliest token is always taken.\n"
    )
    (folder / "lighthouse.txt").write_text("The lighthouse of Ahrenshoop was built in 1911 and is 23 metres high.\n")
    return folder


@pytest.fixture(scope="module")
def labs(tmp_path_factory) -> Path:
    """A folder as `cutaway labs run` leaves it, of a lab that takes no time."""
    from cutaway.labs.contract import Bilingual, Claim, Lab
    from cutaway.labs.runner import run_lab

    def draw(numbers):
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(5, 3))
        axes.plot(numbers["temperature"], numbers["entropy_bits"])
        return figure

    lab = Lab(
        id=6,
        title=Bilingual("Temperature", "温度"),
        claim=Bilingual("A higher temperature spreads the choice.", "温度越高，选择越分散。"),
        fixed=Bilingual("Same logits.", "对数几率相同。"),
        expected="supported",
        checks=(
            Claim(
                "rises", Bilingual("Entropy rises.", "熵上升。"), lambda n: n["entropy_bits"][0] < n["entropy_bits"][1]
            ),
        ),
        measure=lambda setting: {"temperature": [0.5, 1.0], "entropy_bits": [1.0, 2.0]},
        draw=draw,
    )
    out = tmp_path_factory.mktemp("labs")
    record = run_lab(lab, out, seeds=(0,), quick=True, model=None)
    (out / "report.json").write_text(json.dumps([record]))
    return out


@pytest.fixture(scope="module")
def server(driver, smollm2, minilm, documents, labs, tmp_path_factory):
    """The packaged model with an index of the documents and a gallery."""
    from cutaway.retrieve.index import Index

    index = tmp_path_factory.mktemp("index")
    Index.open(index).update(documents)
    server = Server.start(smollm2, "--index", str(index), "--labs", str(labs))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def locked_server(driver, smollm2):
    """A server that wants a key."""
    server = Server.start(smollm2, key="correct-horse")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def start_server(driver, smollm2):
    """Start further servers, with settings of their own."""
    started = []

    def start(*options: str) -> Server:
        started.append(Server.start(smollm2, *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def seeing_server(driver, tiny_chat, tmp_path_factory):
    """A small random model that reads images and sounds among its texts."""
    import torch

    from cutaway.models.families import make_model
    from cutaway.models.huggingface import save_model

    tokenizer, folder = tiny_chat(64).tokenizer, tmp_path_factory.mktemp("seeing") / "seeing"
    torch.manual_seed(0)
    shape = dict(
        hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    media = dict(image_size=8, patch_size=4)
    save_model(
        make_model({"model_type": "omni", "vocab_size": tokenizer.vocab_size, "media": media, **shape}),
        tokenizer,
        folder,
    )
    server = Server.start(folder)
    yield server
    server.stop()


@pytest.fixture
def seeing_page(driver, seeing_server):
    yield from opened(driver, seeing_server)


@pytest.fixture(scope="module")
def small_server(start_server):
    """A server that answers one at a time, lets nobody wait, and reads little."""
    return start_server("engine.max_batch=1", "engine.context=1024", "max_waiting=0")


@pytest.fixture
def small_page(driver, small_server):
    yield from opened(driver, small_server)


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


@pytest.fixture
def locked_page(driver, locked_server):
    yield from opened(driver, locked_server)


def opened(driver, server):
    page = Page(driver, server)
    page.resize(*WINDOW)
    yield page
    page.forget()
    assert page.log() == "", "the browser's log is not empty"
