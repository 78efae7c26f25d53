"""`cutaway generate` and `cutaway inspect` on a small model in a folder."""

import json

import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import CheckpointError, ConfigError, RequestError
from cutaway.infer.generate import GenerateConfig
from cutaway.models.huggingface import save_model


@pytest.fixture
def folder(loaded, tmp_path):
    save_model(loaded.model, loaded.tokenizer, tmp_path / "tiny")
    return str(tmp_path / "tiny")


def run(*words: str):
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_generate_streams_what_json_tells(folder):
    settings = ["sampling.temperature=0", "max_tokens=8", "dtype=float32"]
    record = json.loads(run("generate", folder, "the quick", "--json", *settings))
    assert run("generate", folder, "the quick", *settings).startswith(record["text"])
    assert record["finish_reason"] in ("length", "stop")
    assert (
        record["text"][1]
        not in json.loads(run("generate", folder, "the quick", "--json", f"stop={record['text'][1]}", *settings))[
            "text"
        ]
    )


def test_one_stop_string_or_several():
    assert load_config(GenerateConfig, None, ["stop=END"]).stop == ("END",)
    assert load_config(GenerateConfig, None, ["stop=[a, b]"]).stop == ("a", "b")


def test_generate_answers_a_message_and_searches_with_beams(folder):
    assert json.loads(run("generate", folder, "hi", "--chat", "--json", "max_tokens=3"))["prompt_tokens"] > 5
    found = json.loads(run("generate", folder, "the", "--beams", "3", "--json", "beam.n_best=2", "max_tokens=4"))[
        "beams"
    ]
    assert len(found) == 2
    assert found[0]["score"] >= found[1]["score"]


def test_inspect_prints_tells_and_draws(folder, tmp_path):
    report = json.loads(run("inspect", folder, "the quick brown fox", "--json", "top_p=0.9"))
    assert [stage["name"] for stage in report["stages"]] == ["model", "top_p"]
    printed = run("inspect", folder, "the quick brown fox", "--position", "2", "--plot", str(tmp_path / "r.svg"))
    assert "token 2:" in printed
    assert (tmp_path / "r.svg").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["generate", "{}", "a", "sampling.temprature=1"], ConfigError, "temperature"),
        (["generate", "{}", "a", "--beams", "2", "sampling.top_k=3"], ConfigError, "beam search takes no sampling"),
        (["generate", "{}", "a", "system=x"], ConfigError, "chat=true"),
        (["generate", "{}", ""], RequestError, "prompt: is empty"),
        (["generate", "{}/none", "a"], CheckpointError, "model="),
        (["inspect", "{}", "the quick", "--position", "99"], RequestError, "position=99"),
        (["inspect", "{}", "the quick", "--plot", "x.bmp"], ConfigError, "--plot"),
    ],
)
def test_mistakes_are_named(folder, words, error, says):
    with pytest.raises(error, match=says):
        run(*(word.format(folder) if "{}" in word else word for word in words))
