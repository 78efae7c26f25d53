"""Two processes equal one, however they share the work, also after an interruption; and one of them dies. Under gloo."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError
from cutaway.train.logs import read_lines
from cutaway.train.pretrain import PretrainConfig, pretrain
from tests.train.ranks import Ranks, run

TEXT = "\n".join(
    f"The {a} {b} sees the {c}." for a in ("red", "old", "wet") for b in ("cat", "dog", "fox") for c in ("moon", "sea")
)
LLAMA = "model.hidden_size=16 model.intermediate_size=32 model.num_hidden_layers=2 model.num_attention_heads=4"
MIXTRAL = f"{LLAMA} model.model_type=mixtral model.num_local_experts=4 model.num_key_value_heads=2"
SHAPES = {
    "llama": f"{LLAMA} model.num_key_value_heads=2",
    "qwen3": f"{LLAMA} model.model_type=qwen3 model.head_dim=8 model.num_key_value_heads=2",
    "gpt2": "model.model_type=gpt2 model.n_embd=16 model.n_layer=2 model.n_head=4",
    "alibi": f"{LLAMA} model.model_type=composed model.positions=alibi model.activation=gelu model.num_key_value_heads=2",
    "relative": f"{LLAMA} model.model_type=composed model.positions=relative model.num_key_value_heads=4",
    "mixtral": MIXTRAL,
    "biased": f"{MIXTRAL} model.expert_bias_rate=0.01 loss.balance=0",
    "bert": f"{LLAMA} model.model_type=bert objective=masked",
    "t5": "objective=spans model.model_type=t5 model.d_model=16 model.d_ff=32 model.num_layers=2 model.num_heads=4 "
    "model.d_kv=8 model.dropout_rate=0",
    "flan": "objective=spans model.model_type=t5 model.d_model=16 model.d_ff=32 model.num_layers=2 model.num_heads=4 "
    "model.d_kv=8 model.dropout_rate=0 model.feed_forward_proj=gated-gelu model.tie_word_embeddings=false",
    "transformer": "objective=spans model.model_type=transformer model.hidden_size=16 model.intermediate_size=32 "
    "model.num_encoder_layers=2 model.num_decoder_layers=2 model.dropout=0",
}
# Adam divides by the root of the squared gradient: with a smaller eps it would blow up the rounding of gradients near zero.
BASE = """optim.eps=1e-4 optim.lr=1e-2 data.seq_len=24 data.rows=2 train_tokenizer.vocab_size=300
    loop.steps=6 loop.eval_every=3 loop.log_every=1 loop.tensorboard=false loop.precision=float32 loop.compile=off"""
TENSOR, EXPERTS = "loop.parallel.tensor=2 loop.micro_batches=2", "loop.parallel.experts=2"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the text is, and the runs."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("\n\n".join([TEXT] * 4))
    return folder


@pytest.fixture(scope="module")
def two():
    """Two processes that have met."""
    with Ranks(2) as ranks:
        yield ranks


@pytest.fixture(scope="module")
def alone(place):
    """The folder of a run that one process made, of each kind one."""

    @cache
    def made(shape: str, *more: str) -> Path:
        out = place / "-".join([shape, *more]).replace("/", "")
        run("pretrain", words(place, out, shape, "loop.micro_batches=2", *more))
        return out

    return made


def words(place: Path, out: Path, shape: str, *more: str) -> list[str]:
    where = [f"out={out}", f"data.path={place / 'text.txt'}", f"data.cache={place / 'cache'}"]
    return [*where, *BASE.split(), *SHAPES[shape].split(), *more]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if "loss" in line]


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def same_runs(one: Path, other: Path) -> None:
    """Losses of every step, the held-out loss, the tokens read and the weights."""
    torch.testing.assert_close(losses(other), losses(one), atol=1e-5, rtol=1e-5)
    (first, second) = (report(out) for out in (one, other))
    assert first["tokens"] == second["tokens"]
    for name, loss in first["held_out_loss"].items():
        assert second["held_out_loss"][name] == pytest.approx(loss, abs=1e-5)
    first, second = (load_file(out / "model" / "model.safetensors") for out in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("shape", "shared"),
    [
        *((shape, TENSOR) for shape in SHAPES if shape not in ("biased", "t5")),
        *((shape, "") for shape in ("llama", "biased", "bert", "t5", "transformer")),
        *((shape, EXPERTS) for shape in ("mixtral", "biased")),
        ("mixtral", "loop.checkpointing=true"),
        ("mixtral", f"{EXPERTS} loop.checkpointing=true"),
        ("gpt2", f"{TENSOR} loop.checkpointing=true"),
        ("t5", f"{TENSOR} loop.checkpointing=true"),
    ],
)
def test_however_two_share_the_work_they_equal_one(place, two, alone, tmp_path, shape, shared):
    two.run("pretrain", words(place, tmp_path / "two", shape, *shared.split()))
    same_runs(alone(shape), tmp_path / "two")


@pytest.mark.slow
def test_two_learn_from_pairs_of_sentences_as_one_does(place, two, tmp_path):
    records = [{"text": TEXT.replace("\n", " ")}] * 6
    (place / "documents.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    more = ["objective=sop", "train_tokenizer.kind=wordpiece", f"data.path={place / 'documents.jsonl'}"]
    run("pretrain", words(place, tmp_path / "one", "bert", *more, "loop.micro_batches=2"))
    two.run("pretrain", words(place, tmp_path / "two", "bert", *more))
    same_runs(tmp_path / "one", tmp_path / "two")


LAYERS = ["hidden_size=16", "intermediate_size=32", "num_hidden_layers=1", "num_attention_heads=2"]
PICTURES = ["image_size=4", "patch_size=2", "num_channels=1", *LAYERS]
TOWERS = ["model.model_type=clip", "train_tokenizer.vocab_size=300", "model.text_config.max_position_embeddings=16"]
TOWERS += ["data.seq_len=16", *(f"model.text_config.{word}" for word in LAYERS)]
VIT = ["model.model_type=vit"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("contrast", [*TOWERS, "data.held_out_share=0.25", *(f"model.vision_config.{word}" for word in PICTURES)]),
        ("classify", [*VIT, *(f"model.{word}" for word in PICTURES)]),
        ("classify", [*VIT, *(f"model.{word}" for word in PICTURES), "train_encoder=false"]),
    ],
)
def test_two_learn_from_files_as_one_does(place, two, tmp_path, command, settings):
    rows, said = [], {"contrast": "text", "classify": "label"}[command]
    for number in range(16):
        Image.fromarray(np.full((4, 4), 15 * number, np.uint8)).save(place / f"shade-{number}.png")
        rows.append({"image": f"shade-{number}.png", said: f"shade {number}" if said == "text" else number % 2})
    (place / f"{said}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = [word for word in BASE.split() if not word.startswith(("data.seq_len", "train_tokenizer"))]
    settings = [f"data.path={place / f'{said}.jsonl'}", "start=null", *fixed, *settings]
    run(command, [*settings, f"out={tmp_path / 'one'}", "loop.micro_batches=2"])
    two.run(command, [*settings, f"out={tmp_path / 'two'}"])
    same_runs(tmp_path / "one", tmp_path / "two")
    losses = json.loads((tmp_path / "two" / "report.json").read_text())["held_out_loss"]["held_out"]
    assert losses["before"] != losses["after"]


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["", TENSOR])
def test_two_learn_from_pictures_as_one_does(place, two, tmp_path, shared):
    for number in range(8):
        Image.fromarray(np.full((4, 4), 30 * number, np.uint8)).save(place / f"{number}.png")
    rows = [[{"image": f"{number}.png"}, {"text": f" shade {number}", "learn": True}] for number in range(8)]
    rows += [[{"text": f"{number} and one"}, {"text": f" {number + 1}", "learn": True}] for number in range(8)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    media = "model.media.image_size=4 model.media.patch_size=2 model.media.num_channels=1"
    settings = [*f"data.path={place / 'rows.jsonl'} {BASE} {SHAPES['llama']} {media}".split()]
    run("omni", [*settings, f"out={tmp_path / 'one'}", "loop.micro_batches=2"])
    two.run("omni", [*settings, f"out={tmp_path / 'two'}", *shared.split()])
    same_runs(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_share_rows_and_products_and_experts(place, alone, tmp_path):
    with Ranks(4) as four:
        for name, shared in (("products", "tensor=2"), ("both", "tensor=2 loop.parallel.experts=2")):
            four.run("pretrain", words(place, tmp_path / name, "mixtral", *f"loop.parallel.{shared}".split()))
            same_runs(alone("mixtral"), tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["qwen3", "gpt2"])
def test_blocks_that_travel_in_bfloat16_learn_as_autocast_does(place, two, alone, tmp_path, shape):
    two.run("pretrain", words(place, tmp_path / "two", shape, "loop.precision=bfloat16"))
    one = alone(shape, "loop.precision=bfloat16")
    torch.testing.assert_close(losses(tmp_path / "two"), losses(one), atol=3e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [TENSOR, "loop.parallel.experts=2 loop.micro_batches=2", "loop.micro_batches=2"])
@pytest.mark.parametrize("first", [1, 2])
def test_a_checkpoint_is_resumed_by_another_number_of_processes(place, two, alone, tmp_path, first, shared):
    """Where both read the same rows in a step, the losses are those of a run that was never stopped; else two read twice as many,
    and the losses go on from where they were."""
    out = tmp_path / "run"
    plain = words(place, out, "mixtral", "loop.micro_batches=2")
    ways = {1: (run, plain), 2: (two.run, [*plain, *shared.split()])}
    carry_out, settings = ways[first]
    carry_out("pretrain", settings, 3)
    assert len(losses(out)) == 3
    carry_out, settings = ways[3 - first]
    carry_out("pretrain", settings)
    if "tensor" in shared:
        same_runs(alone("mixtral"), out)
    else:
        found, whole = losses(out), losses(alone("mixtral"))
        assert len(found) == 6
        torch.testing.assert_close(found, whole, atol=0.2, rtol=0)


@pytest.mark.parametrize("processes", ["loop.parallel.tensor=2", "loop.parallel.experts=3"])
def test_sharing_with_processes_that_are_not_there_is_refused(place, tmp_path, processes):
    with pytest.raises(ConfigError, match=f"{processes}: must divide the number of processes, which is 1"):
        pretrain(load_config(PretrainConfig, None, words(place, tmp_path / "run", "mixtral", processes)))


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["", TENSOR])
def test_dropout_is_a_reader_s_own_and_a_resumed_run_s_as_it_would_have_been(place, two, tmp_path, shared):
    def carry_out(name, stop=None):
        settings = words(place, tmp_path / name, "transformer", "model.dropout=0.5", "loop.steps=4", *shared.split())
        two.run("pretrain", settings, stop)
        return [json.loads((tmp_path / f"{name}-masks-{rank}.json").read_text()) for rank in range(2)]

    first, second = carry_out("whole")
    assert len(first) == len(second) > 4
    if shared:
        assert first == second
    else:  # of what both have, they leave out half independently
        both = [np.mean(np.equal(a, b)) for a, b in zip(first, second, strict=True) if len(a) == len(b)]
        assert np.mean(both) == pytest.approx(0.5, abs=0.02)
    assert len({tuple(mask) for mask in first}) == len(first)
    carry_out("cut", 2)
    carry_out("cut")
    whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_finetune_adapters_also_after_an_interruption(place, two, alone, tmp_path):
    settings = [*words(place, tmp_path, "llama")[1:], f"model={alone('llama') / 'model'}", "lora.rank=2"]
    settings = [word for word in settings if not word.startswith(("model.", "train_tokenizer"))]
    run("finetune", [*settings, f"out={tmp_path / 'one'}", "loop.micro_batches=2"])
    two.run("finetune", [*settings, f"out={tmp_path / 'two'}"], 3)
    two.run("finetune", [*settings, f"out={tmp_path / 'two'}"], 3)
    two.run("finetune", [*settings, f"out={tmp_path / 'two'}"])
    same_runs(tmp_path / "one", tmp_path / "two")
    adapters = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=1e-5, rtol=1e-4)


FAILING = """
import os, signal, sys
from cutaway.cli.main import main
from cutaway.train import loop

how, seen, move = sys.argv.pop(1), 0, loop.move_biases

def fail(model):
    global seen
    seen += 1
    if seen == 5 and os.environ["RANK"] == "1":
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError("no room for step 5")
    move(model)

loop.move_biases = fail
main()
"""


def torchrun(*program: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", *program]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("killed", "error: process 1 of 2 died without a word: killed, or out of memory"),
        ("raises", "error: process 1 of 2 failed: MemoryError: no room for step 5"),
    ],
)
def test_a_process_that_dies_stops_the_others_and_the_same_command_goes_on(place, two, alone, tmp_path, how, says):
    script, out = tmp_path / "failing.py", tmp_path / "run"
    script.write_text(FAILING)
    settings = words(place, out, "llama", "loop.checkpoint_every=2")
    code, _, err = torchrun(str(script), how, "pretrain", *settings)
    assert code != 0
    assert says in err
    assert json.loads((out / "last" / "training" / "state.json").read_text())["standing"]["step"] == 4
    assert load_file(out / "last" / "model.safetensors")
    if how == "killed":  # by the command itself; one of the two speaks
        code, said, err = torchrun("-m", "cutaway", "pretrain", *settings)
        assert code == 0, err
        assert said.count("held-out loss") == 1
    else:
        two.run("pretrain", settings)
    same_runs(alone("llama"), out)
