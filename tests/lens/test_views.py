"""Views of one token, and the command that shows views; `test_families` has every view of every family."""

import json
import sys

import pytest
import torch

from cutaway.cli.main import main
from cutaway.core.errors import ConfigError
from cutaway.lens.views import VIEWS
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded

IDS = torch.tensor([[40, 50, 60, 50, 70]])


def test_views_of_one_token(any_model, tokenizer, tmp_path):
    loaded = Loaded(any_model, tokenizer, "tiny", tmp_path)
    for what in ("activations", "jacobian", "units", "neighbours"):
        assert VIEWS[what](loaded, IDS[:, :1]).rows
    with pytest.raises(ConfigError, match="two vectors"):
        VIEWS["pca"](loaded, IDS[:, :1])


@pytest.fixture
def inspect(monkeypatch, capsys):
    """Run `cutaway inspect` with some words; its exit code, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cutaway", "inspect", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def folders(tokenizer, tmp_path):
    """A decoder, an encoder and a model of experts, saved."""
    torch.manual_seed(0)
    shapes = {
        "llama": {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1},
        "bert": {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40},
        "mixtral": {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1},
    }
    for kind, shape in shapes.items():
        model = make_model({"model_type": kind, "vocab_size": tokenizer.vocab_size, **shape})
        save_model(model, tokenizer, tmp_path / kind)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "what"),
    [("llama", "gradients"), ("llama", "jacobian"), ("bert", "activations"), ("bert", "pca"), ("mixtral", "experts")],
)
def test_the_command_prints_and_writes(inspect, folders, kind, what):
    code, printed, _ = inspect(folders / kind, "abc [x] $y$", "--what", what, "--out", folders / "out")
    assert code == 0
    assert f"{what}.png" in printed
    report = json.loads((folders / "out" / f"{what}.json").read_text())
    assert (report["what"], report["text"]) == (what, "abc [x] $y$")
    assert (folders / "out" / f"{what}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folders / "out" / f"{what}.svg").read_text()
    code, printed, _ = inspect(folders / kind, "abc [x] $y$", "--what", what, "--json")
    assert json.loads(printed) == report


def test_one_token_is_opened_as_before(inspect, folders):
    code, printed, _ = inspect(folders / "llama", "abc", "--json", "top_k=5")
    assert code == 0
    assert json.loads(printed)["position"] == 2


@pytest.mark.parametrize(
    ("kind", "words", "says"),
    [
        ("llama", ["abc", "--what", "activation"], "did you mean activations"),
        ("llama", ["abc", "--what", "experts"], "without experts"),
        ("bert", ["abc", "--what", "gradients"], "no head that says words"),
        ("llama", ["", "--what", "units"], "text: holds no token"),
        ("llama", ["a", "--what", "gradients"], "two tokens"),
        ("llama", ["a" * 2000, "--what", "units"], "the model reads 1024 tokens"),
        ("llama", ["abc", "--what", "units", "--position", "1"], "--position"),
        ("llama", ["abc", "top_k=5", "--what", "units"], "KEY=VALUE"),
        ("llama", ["abc", "--out", "there"], "it needs --what"),
    ],
)
def test_what_cannot_be_shown_is_said(inspect, folders, kind, words, says):
    code, _, error = inspect(folders / kind, *words)
    assert code == 2
    assert says in error
    assert "Traceback" not in error
