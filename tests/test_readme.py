"""The README's commands, run as they stand there, in one folder, in order."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

DOCUMENT = """# Opening hours

The shop opens at nine in the morning from Monday to Friday. On Saturday we open at ten. On Sunday the shop is closed.

## Returns

Goods can be returned within thirty days if the receipt is shown.
"""


def commands(readme: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("  #")[0].split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_both_readmes_show_the_same_commands(root):
    assert commands(root / "README.md") == commands(root / "README.zh-CN.md")


def test_make_targets_exist(root):
    for line in commands(root / "README.md"):
        if line.startswith("make "):
            found = subprocess.run(["make", "-n", line.split()[1]], cwd=root, capture_output=True, text=True)
            assert found.returncode == 0, found.stderr


def test_links_lead_somewhere(root):
    for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", (root / name).read_text(encoding="utf-8")):
            assert (root / target).exists(), f"{name} links to {target}"


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory, smollm2, minilm):
    """A folder with what the README speaks of."""
    place = tmp_path_factory.mktemp("readme")
    (place / "my-docs").mkdir()
    (place / "my-docs" / "opening.md").write_text(DOCUMENT)
    (place / "my-docs" / "long.txt").write_text(DOCUMENT * 40)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {i} + 1?"},
                {"role": "assistant", "content": f"It is {i + 1}."},
            ]
        }
        for i in range(24)
    ]
    (place / "my-data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (place / "examples").symlink_to(root / "examples")
    return place


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CUTAWAY_HOME": str(folder / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_run(root, folder):
    for line in commands(root / "README.md"):
        if line.startswith("make"):
            continue
        serves = line.startswith("cutaway serve") or (line.startswith("cutaway up") and "--once" not in line)
        if "--adapt" in line:
            continue  # the fine-tune is run by its own line; `up --adapt` by the tests of `up`
        if serves:
            serve_and_stop(line, folder)
        else:
            done = subprocess.run(
                shlex.split(line), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=400
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def serve_and_stop(line: str, folder: Path) -> None:
    port = "18431"
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*shlex.split(line), "--port", port], cwd=folder, env=environment(folder), stdout=log, stderr=log
        )
        try:
            assert ready(f"http://127.0.0.1:{port}/health", process), (folder / "serve.log").read_text()[-3000:]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def ready(url: str, process: subprocess.Popen) -> bool:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            time.sleep(0.3)
    return False
