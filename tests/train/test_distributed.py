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


LLAMA = "model.hidden_size=16 model.intermediate_size=32 model.num_hidden_layers=2 model.num_attention_heads=4"
SHAPES = {
    "qwen3": f"{LLAMA} model.model_type=qwen3 model.head_dim=8 model.num_key_value_heads=2",
    "gpt2": "model.model_type=gpt2 model.n_embd=16 model.n_layer=2 model.n_head=4",
    "alibi": f"{LLAMA} model.model_type=composed model.positions=alibi model.activation=gelu model.num_key_value_heads=2",
    "relative": f"{LLAMA} model.model_type=composed model.positions=relative model.num_key_value_heads=4",
    "mixtral": f"{LLAMA} model.model_type=mixtral model.num_local_experts=4 model.num_key_value_heads=2",
}
# Adam divides by the root of the squared gradient: with a smaller eps it would blow up the rounding of gradients near zero.
BASE = """optim.eps=1e-4
    data.seq_len=24 data.rows=2 train_tokenizer.vocab_size=300 loop.steps=6 loop.eval_every=3 loop.log_every=1
    loop.tensorboard=false loop.precision=float32 loop.compile=off optim.lr=1e-2"""


def words(text: Path, out: Path, shape: str, *more: str) -> list[str]:
    return [
        f"out={out}",
        f"data.path={text}",
        f"data.cache={text.parent / 'cache'}",
        *BASE.split(),
        *SHAPES[shape].split(),
        *more,
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("shape", "shared"),
    [
        *((shape, "loop.parallel.tensor=2 loop.micro_batches=2") for shape in SHAPES),
        ("mixtral", "loop.parallel.experts=2"),
        ("mixtral", "loop.checkpointing=true"),
        ("mixtral", "loop.parallel.experts=2 loop.checkpointing=true"),
        ("gpt2", "loop.parallel.tensor=2 loop.micro_batches=2 loop.checkpointing=true"),
    ],
)
def test_however_two_share_the_work_they_equal_one(text, tmp_path, shape, shared):
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, "pretrain", words(text, one, shape, "loop.micro_batches=2"))
    run(2, "pretrain", words(text, two, shape, *shared.split()))
    torch.testing.assert_close(losses(two), losses(one), atol=1e-5, rtol=1e-5)
    same_weights(one, two)
    tokens, again = (json.loads((out / "report.json").read_text())["tokens"] for out in (one, two))
    assert tokens == again


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_share_rows_and_products_and_experts(text, tmp_path):
    one = tmp_path / "one"
    run(1, "pretrain", words(text, one, "mixtral", "loop.micro_batches=2"))
    for name, processes, shared in (("products", 4, "tensor=2"), ("both", 4, "tensor=2 loop.parallel.experts=2")):
        run(processes, "pretrain", words(text, tmp_path / name, "mixtral", *f"loop.parallel.{shared}".split()))
        torch.testing.assert_close(losses(tmp_path / name), losses(one), atol=1e-5, rtol=1e-5)
        same_weights(one, tmp_path / name)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", ["qwen3", "gpt2"])
def test_blocks_that_travel_in_bfloat16_learn_as_autocast_does(text, tmp_path, shape):
    run(1, "pretrain", words(text, tmp_path / "one", shape, "loop.micro_batches=2", "loop.precision=bfloat16"))
    run(2, "pretrain", words(text, tmp_path / "two", shape, "loop.precision=bfloat16"))
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=3e-3, rtol=0)


def interrupted(process: subprocess.Popen, out: Path) -> None:
    """Stop a run after a few steps; it saves."""
    deadline = time.monotonic() + 120
    while len(losses(out)) < 3:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert (out / "last" / "training" / "state.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("first", "then", "shared"),
    [
        (2, 1, "loop.parallel.experts=2 loop.micro_batches=1"),
        (1, 2, "loop.parallel.experts=2 loop.micro_batches=1"),
        (2, 1, "loop.parallel.tensor=2 loop.micro_batches=1"),
        (1, 2, "loop.parallel.tensor=2 loop.micro_batches=1"),
    ],
)
def test_a_checkpoint_is_resumed_by_another_number_of_processes(text, tmp_path, first, then, shared):
    """Where both read the same rows in a step, the losses are those of a run that was never stopped."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    steps = ["loop.steps=60", "loop.eval_every=60"]
    plain = words(text, out, "mixtral", *steps)
    ways = {1: plain, 2: [*plain, *shared.split()]}
    interrupted(launch(first, "pretrain", ways[first]), out)
    at = len(losses(out))
    assert at < 60
    run(then, "pretrain", ways[then])
    found = losses(out)
    assert len(found) == 60
    if "tensor" in shared:
        run(1, "pretrain", words(text, whole, "mixtral", *steps))
        torch.testing.assert_close(found, losses(whole), atol=1e-4, rtol=1e-4)
    else:  # two read twice as many rows in a step
        assert abs(found[at] - found[at - 1]) < 0.5


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("processes", "said"),
    [("loop.parallel.tensor=2", "loop.parallel.tensor=2"), ("loop.parallel.experts=3", "loop.parallel.experts=3")],
)
def test_sharing_with_processes_that_are_not_there_is_refused(text, tmp_path, processes, said):
    process = launch(1, "pretrain", words(text, tmp_path / "run", "mixtral", processes))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert said in err
    assert "must divide the number of processes" in err


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
