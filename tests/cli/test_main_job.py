"""`cutaway up`, `index`, `ask` and `serve` on small documents and a tiny model: what is done, skipped, refused and kept."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutaway.cli.main import main

OPENING = "# Opening hours\n\nThe shop opens at nine in the morning. On Sunday the shop is closed.\n"
RETURNS = "# Returns\n\nGoods can be returned within thirty days if the receipt is shown.\n"
QUESTION = "When does the shop open in the morning?"


@pytest.fixture
def docs(tmp_path, minilm) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "opening.md").write_text(OPENING)
    (folder / "returns.md").write_text(RETURNS)
    return folder


@pytest.fixture
def conversations(tmp_path) -> Path:
    path = tmp_path / "data.jsonl"
    turns = [(f"What is {i} + 1?", f"It is {i + 1}.") for i in range(24)]
    path.write_text("".join(json.dumps({"instruction": ask, "output": say}) + "\n" for ask, say in turns))
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "cutaway", *map(str, words)]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cutaway(monkeypatch, capfd) -> Callable[..., Done]:
    """Run a command in this process, from its arguments to its exit code."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["cutaway", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def succeed(cutaway) -> Callable[..., Done]:
    def run(*words: object) -> Done:
        done = cutaway(*words)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@contextmanager
def served(*words: object) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that is up, and the lines that it printed until then."""
    process = subprocess.Popen(
        command(*words, "--port", 0), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0], lines
                break
        else:
            pytest.fail("".join(lines))
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def ask(url: str, model: str = "tiny") -> dict:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "documents": True,
        "max_tokens": 300,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_up_answers_once(succeed, docs, tiny_folder, tmp_path):
    done = succeed("up", docs, "--model", tiny_folder, "--home", tmp_path / "home", "--once", QUESTION, "--json")
    answer = json.loads(done.stdout)
    assert answer["answerable"]
    assert answer["timings"]["total"] > 0
    assert answer["passages"][0]["source"] == "opening.md"
    # The reply opens with the nearest sentence; the random model then babbles, which no passage supports.
    assert answer["text"].startswith("The shop opens at nine in the morning.")
    assert not answer["grounded"]
    nothing = succeed(
        "up", docs, "--model", tiny_folder, "--home", tmp_path / "home", "--once", "Who painted Guernica?"
    )
    assert "[" not in nothing.stdout
    assert nothing.stdout.strip()


def test_up_serves_and_does_again_only_what_changed(docs, tiny_folder, tmp_path):
    words = ("up", docs, "--model", tiny_folder, "--home", tmp_path / "home")
    with served(*words) as (url, first):
        assert any("evaluating" in line for line in first)
        assert ask(url)["choices"][0]["message"]["content"].startswith("The shop opens at nine")
    with served(*words) as (_, again):
        assert not any("evaluating" in line for line in again)
    (docs / "opening.md").write_text(OPENING.replace("nine", "seven"))
    with served(*words) as (url, changed):
        assert any("evaluating" in line for line in changed)
        assert ask(url)["choices"][0]["message"]["content"].startswith("The shop opens at seven")


def test_up_adapts_first_and_only_once(succeed, docs, conversations, tiny_folder, tmp_path):
    words = ("up", docs, "--model", tiny_folder, "--home", tmp_path / "home", "--adapt", conversations)
    settings = ("finetune.loop.steps=3", "finetune.data.seq_len=64", "finetune.loop.compile=off")
    first = succeed(*words, "--once", QUESTION, *settings)
    for name in ("new", "retention"):
        assert re.search(rf"held-out loss, {name}: \d+\.\d+ → \d+\.\d+", first.stdout), first.stdout
    (weights,) = (tmp_path / "home").rglob("adapted/*/model/model.safetensors")
    made = weights.stat().st_mtime_ns
    again = succeed(*words, "--once", QUESTION, *settings)
    assert weights.stat().st_mtime_ns == made
    assert [line for line in again.stdout.splitlines() if "held-out" in line]
    succeed(*words, "--once", QUESTION, *settings[1:], "finetune.loop.steps=2")
    assert len(list((tmp_path / "home").rglob("adapted/*/model/model.safetensors"))) == 2


def test_up_goes_on_after_a_kill(docs, tiny_folder, tmp_path):
    for i in range(60):
        (docs / f"note{i}.md").write_text(f"# Note {i}\n\n" + f"Line about topic {i} and nothing else. " * 60)
    words = command("up", docs, "--model", tiny_folder, "--home", tmp_path / "home", "--once", QUESTION, "--json")
    for seconds in (3.5, 5.0):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passages"][0]["source"] == "opening.md"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent"], "absent"),
        ([".", "loop.steps=3"], "begins with serve. or finetune."),
        ([".", "serve.max_wating=3"], "max_waiting"),
        ([".", "--model", "absent.gguf"], "model"),
        ([".", "--adapt", "absent.jsonl", "--once", "why"], "absent.jsonl"),
        ([".", "--once", " "], "question"),
        ([".", "--json"], "--once"),
        ([".", "finetune.loop.steps=3", "--once", "why"], "--adapt"),
    ],
)
def test_up_refuses(cutaway, words, said, docs, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(docs)
    if "--model" not in words:
        words = [*words, "--model", str(tiny_folder)]
    done = cutaway("up", *words, "--home", tmp_path / "home")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_up_with_nothing_to_read(cutaway, tmp_path, minilm, tiny_folder):
    (tmp_path / "empty").mkdir()
    done = cutaway("up", tmp_path / "empty", "--model", tiny_folder, "--home", tmp_path / "home", "--once", "why")
    assert done.returncode == 2
    assert "documents" in done.stderr


def test_index_and_ask(cutaway, succeed, docs, tiny_folder, tmp_path):
    index = tmp_path / "index"
    first = json.loads(succeed("index", docs, "--out", index, "--json").stdout)
    assert sorted(first["added"]) == ["opening.md", "returns.md"]
    (docs / "returns.md").unlink()
    assert "0 added, 0 changed, 1 deleted, 1 unchanged" in succeed("index", docs, "--out", index).stdout
    answer = json.loads(succeed("ask", QUESTION, "--index", index, "--model", tiny_folder, "--json").stdout)
    assert {passage["source"] for passage in answer["passages"]} == {"opening.md"}
    assert "The shop opens at nine" in succeed("ask", QUESTION, "--index", index, "--model", tiny_folder).stdout
    for words, said in (
        (("ask", QUESTION, "--index", tmp_path), "holds no index"),
        (("index", tmp_path / "absent", "--out", index), "absent"),
    ):
        done = cutaway(*words)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_serve_with_an_adapter_and_an_index(cutaway, succeed, docs, conversations, tiny_folder, tmp_path):
    succeed("index", docs, "--out", tmp_path / "index")
    settings = ("loop.steps=2", "loop.compile=off", "data.seq_len=64")
    succeed("finetune", f"model={tiny_folder}", f"data.path={conversations}", f"out={tmp_path / 'run'}", *settings)
    adapter = tmp_path / "run" / "adapter"
    with served("serve", tiny_folder, "--adapter", adapter, "--index", tmp_path / "index") as (url, _):
        assert ask(url)["choices"][0]["message"]["content"].startswith("The shop opens at nine")
    done = cutaway("serve", tiny_folder, "--adapter", tmp_path / "absent", "--port", 0)
    assert done.returncode == 2
    assert "absent" in done.stderr
