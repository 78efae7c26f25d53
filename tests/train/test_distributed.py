"""Two processes equal one, also after an interruption; and one of them dies. Real processes, under gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cutaway.train.logs import read_lines

TEXT = "\n".join(
    f"the {a} {b} sees the {c}" for a in ("red", "old", "wet") for b in ("cat", "dog", "fox") for c in ("moon", "sea")
)


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join([TEXT] * 4))
    return path


def settings(text: Path, out: Path, *more: str) -> list[str]:
    return (
        f"""out={out} data.path={text} data.cache={text.parent / "cache"} data.seq_len=24 data.rows=2
        model.hidden_size=16 model.intermediate_size=32 model.num_hidden_layers=2 model.num_attention_heads=2
        model.num_key_value_heads=1 train_tokenizer.vocab_size=300 loop.steps=8 loop.eval_every=4 loop.log_every=1
        loop.tensorboard=false loop.precision=float32 loop.compile=off optim.lr=1e-2""".split()
        + list(more)
    )


def launch(processes: int, command: str, words: list[str]) -> subprocess.Popen:
    python = [sys.executable, "-m", "cutaway"]
    if processes > 1:
        python = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc_per_node={processes}",
            "--standalone",
            "-m",
            "cutaway",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*python, command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def run(processes: int, command: str, words: list[str]) -> str:
    process = launch(processes, command, words)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-4000:]
    return out


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if "loss" in line]


def same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(out / "model" / "model.safetensors") for out in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_equal_one(text, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, "pretrain", settings(text, one, "loop.micro_batches=2"))
    said = run(2, "pretrain", settings(text, two, "loop.micro_batches=1"))
    assert said.count("held-out loss") == 1  # one of them speaks
    torch.testing.assert_close(losses(two), losses(one), atol=1e-5, rtol=1e-5)
    same_weights(one, two)
    reports = [json.loads((out / "report.json").read_text()) for out in (one, two)]
    assert reports[0]["tokens"] == reports[1]["tokens"]
    assert reports[1]["held_out_loss"]["held_out"]["after"] == pytest.approx(
        reports[0]["held_out_loss"]["held_out"]["after"], abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_two_is_interrupted_and_goes_on_alone(text, tmp_path):
    """The configuration stays; the number of processes may change, and with it how many batches make a step."""
    out = tmp_path / "run"
    words = settings(text, out, "loop.steps=400", "loop.eval_every=400")
    process = launch(2, "pretrain", words)
    deadline = time.monotonic() + 120
    while len(losses(out)) < 5:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    stopped = json.loads((out / "last" / "training" / "state.json").read_text())
    assert 5 <= stopped["standing"]["step"] < 400
    assert stopped["data"]["epoch"] * 10 + stopped["data"]["batch"] > 0
    run(1, "pretrain", words)
    assert json.loads((out / "report.json").read_text())["steps"] == 400
    assert len(losses(out)) == 400


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_dies_stops_the_others_and_the_checkpoint_is_whole(text, tmp_path):
    out = tmp_path / "run"
    words = settings(text, out, "loop.steps=4000", "loop.eval_every=4000", "loop.checkpoint_every=2")
    process = launch(2, "pretrain", words)
    deadline = time.monotonic() + 120
    while len(losses(out)) < 6:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert json.loads((out / "last" / "training" / "state.json").read_text())["standing"]["step"] >= 4
    assert load_file(out / "last" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_finetune_adapters(text, tmp_path):
    run(1, "pretrain", settings(text, tmp_path / "base"))
    words = f"""model={tmp_path / "base" / "model"} data.path={text} data.cache={tmp_path / "cache"} data.seq_len=24 data.rows=2
        loop.steps=6 loop.eval_every=6 loop.log_every=1 loop.tensorboard=false loop.precision=float32 loop.compile=off lora.rank=2
        optim.lr=1e-2""".split()
    run(1, "finetune", [*words, f"out={tmp_path / 'one'}", "loop.micro_batches=2"])
    run(2, "finetune", [*words, f"out={tmp_path / 'two'}"])
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-5, rtol=1e-5)
    same_weights(tmp_path / "one", tmp_path / "two")
    adapters = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=1e-5, rtol=1e-4)
