"""A headless Chromium and the server that it talks to: the real command, in its own process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
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

    def open(self, address: str = "") -> None:
        """Open the page as one who has never been there."""
        self.driver.get(self.server.url + "logo.svg")
        self.driver.execute_script("localStorage.clear()")
        self.driver.get(self.server.url + address)

    def resize(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def all(self, selector: str) -> list:
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return self.wait(selector)

    def wait(self, selector: str, seconds: float = 60):
        """The first element that matches, as soon as there is one."""
        end = time.monotonic() + seconds
        while not (found := self.all(selector)):
            assert time.monotonic() < end, f"no {selector} within {seconds} s; the page says: {self.all('body')[0].text}"
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
