"""`cutaway bench`: what it measures hangs together."""

import json

import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app

run = CliRunner().invoke


def test_a_model_is_measured(smollm2, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The ship left the harbour, and the people on the pier waved.")
    words = ["requests=[1,3]", "prompt=20", "reply=4", "rounds=1", "dtypes=[stored]"]
    done = run(app, ["bench", str(smollm2), *words, "--text", str(text), "--json"])
    assert done.exit_code == 0, done.output
    one, three = json.loads(done.stdout)["rows"]
    assert (one["requests"], three["requests"]) == (1, 3)
    for row in (one, three):
        assert 0 < row["first_s"] <= row["slowest_first_s"]
        assert row["prefill"] == pytest.approx(20 * row["requests"] / row["slowest_first_s"])
        assert row["memory"] > smollm2.stat().st_size
        assert 2 < row["loss"] < 5


@pytest.mark.parametrize(
    ("word", "said"),
    [("requests=[0]", "requests"), ("reply=1", "reply"), ("dtypes=[int3]", "int3"), ("promt=3", "prompt")],
)
def test_what_cannot_be_measured_is_named(smollm2, word, said):
    done = run(app, ["bench", str(smollm2), word])
    assert done.exit_code != 0
    assert said in (done.output + str(done.exception))
