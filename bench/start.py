"""Start: how long until the help is there and the main job answers, how much memory it takes, how soon a token comes."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.harness import Row

PORT = 18765
QUESTIONS = (
    "What does temperature do to the next-token distribution?",
    "How does beam search differ from greedy decoding?",
    "Why are attention scores divided by the square root of the head width?",
)


def run() -> list[Row]:
    help_s = [_timed([sys.executable, "-m", "cutaway", "--help"]) for _ in range(5)]
    import_s = [_timed([sys.executable, "-c", "import cutaway"]) for _ in range(5)]
    rows = [_row("cutaway --help", help_s, "s", 0.5), _row("import cutaway", import_s, "s", None)]
    with tempfile.TemporaryDirectory() as home:
        with _up(home) as (process, ready_s):
            first_s = [_first_token(question) for question in QUESTIONS]
            memory = psutil.Process(process.pid).memory_info().rss / 1e9
        with _up(home) as (_, again_s):
            pass
    return [
        *rows,
        _row("up: ready, first time", [ready_s], "s", 60),
        _row("up: ready, again", [again_s], "s", None),
        _row("up: memory after three answers", [memory], "GB", 1.5),
        _row("up: first token of a grounded answer", first_s, "s", 2),
    ]


def _row(name: str, values: list[float], unit: str, goal: float | None) -> Row:
    return Row(name, statistics.median(values), None, None, unit, False, goal, (min(values), max(values)))


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@contextmanager
def _up(home: str) -> Iterator[tuple[subprocess.Popen, float]]:
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cutaway", "up", "--port", str(PORT)],
        env={**os.environ, "CUTAWAY_HOME": home},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        assert process.poll() is None, "cutaway up ended before it was ready"
        yield process, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _first_token(question: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=60) as answer:
        model = json.load(answer)["data"][0]["id"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "documents": True,
        "stream": True,
        "max_tokens": 8,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    return time.perf_counter() - started
    raise AssertionError("no token came")
