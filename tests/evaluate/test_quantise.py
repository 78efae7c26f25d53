"""A model made smaller, and what that is said to cost."""

import json

import pytest
import torch
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import ConfigError, CutawayError
from cutaway.data.examples import Skipped, tokenize
from cutaway.data.read import Record
from cutaway.evaluate.closeness import closeness
from cutaway.evaluate.perplexity import PerplexityConfig, perplexity
from cutaway.models.gpt2 import GPT2, GPT2Config
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.quant.tensor import QuantTensor

TEXT = "The harbour wakes before the town does. " * 4


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["quantize", *map(str, arguments)])


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_file_is_written_and_its_report_beside_it(calibrated, tiny_folder, text, tmp_path):
    out = tmp_path / "out.gguf"
    settings = ["format=Q8_0", f"text={text}", "reading.window=64", "reading.stride=64"]
    settings += [f"calibration={text}", "calibration_tokens=100"] if calibrated else []
    done = command(tiny_folder, out, *settings, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads(out.with_suffix(".json").read_text())
    assert report["bytes"] == out.stat().st_size
    before, after = load(tiny_folder, dtype="float32", device="cpu"), load(out, dtype="stored", device="cpu")
    assert report["formats"] == {"Q8_0": sum(isinstance(p.data, QuantTensor) for p in after.model.parameters())}
    config, examples = (
        PerplexityConfig(window=64, stride=64),
        list(tokenize([Record(TEXT, "f")], before.tokenizer, Skipped())),
    )
    for when, one in (("before", before), ("after", after)):
        found = perplexity(one.model, one.tokenizer, examples, config)
        assert report["quality"]["perplexity"][when] == pytest.approx(found.perplexity, rel=1e-5)
        assert report["quality"]["bits_per_byte"][when] == pytest.approx(found.bits_per_byte, rel=1e-5)
    assert 0 < report["quality"]["kl_divergence"] < 1e-3


def test_closeness_is_its_definition(tiny_chat):
    loaded, other = tiny_chat(128), tiny_chat(128)
    with torch.no_grad():
        other.model.blocks[1].mlp.down_proj.weight.mul_(-3)
    examples = list(tokenize([Record("the tide is out", "f")], loaded.tokenizer, Skipped()))
    found = closeness(loaded.model, other.model, loaded.tokenizer, examples)
    ids = torch.tensor(examples[0].ids[:-1]).long()[None]  # EOS is not scored
    with torch.inference_mode():
        p, q = (one.model.logits(one.model(ids[:, :-1]))[0].double().softmax(-1) for one in (loaded, other))
    assert found.divergence == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-3)
    assert found.agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item())
    same = closeness(loaded.model, loaded.model, loaded.tokenizer, examples)
    assert (same.divergence, same.agreement) == (0, 1)


@pytest.mark.parametrize(
    ("out", "settings", "message"),
    [
        ("out.bin", [], "must end in .gguf"),
        ("out.gguf", ["format=Q3_K"], "format='Q3_K'"),
        ("out.gguf", ["formt=Q4_K"], "did you mean format"),
        ("out.gguf", ["calibration=absent.txt"], "absent.txt"),
        ("out.gguf", ["text=absent.txt"], "absent.txt"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(out, settings, message, tiny_folder, tmp_path):
    done = command(tiny_folder, tmp_path / out, *settings)
    assert isinstance(done.exception, CutawayError)
    assert message in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_written_over(tiny_folder, tmp_path):
    (tmp_path / "out.gguf").write_text("mine")
    assert "is there already" in str(command(tiny_folder, tmp_path / "out.gguf").exception)
    assert (tmp_path / "out.gguf").read_text() == "mine"


def test_other_families_are_named_before_any_work(tiny_chat, tmp_path):
    tokenizer = tiny_chat(64).tokenizer
    model = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=32, n_layer=1, n_head=2))
    save_model(model, tokenizer, tmp_path / "gpt2")
    done = command(tmp_path / "gpt2", tmp_path / "out.gguf")
    assert isinstance(done.exception, ConfigError)
    assert "only the Llama family" in str(done.exception)
