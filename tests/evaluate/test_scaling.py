"""Scaling laws: known ones come back, published ones are solved as published, runs are read, and what is no run is named."""

import json

import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import ConfigError, DataError
from cutaway.evaluate.scaling import Law, Run, fit_law, read_runs, report

CHINCHILLA = Law(1.69, 406.4, 0.34, 410.7, 0.28)
SIZES = (1e7, 4e7, 1.6e8, 6.4e8)


def runs(law, sizes=SIZES, tokens=(1e9, 5e9, 2.5e10)):
    return [Run(N, D, law.loss(N, D)) for N in sizes for D in tokens]


@pytest.mark.parametrize("law", [CHINCHILLA, Law(0.5, 30.0, 0.2, 2000.0, 0.45)])
def test_a_law_of_both_comes_back(law):
    found = fit_law(runs(law))
    assert (found.E, found.a, found.b) == pytest.approx((law.E, law.a, law.b), rel=0.02)
    assert found.loss(7e10, 1.4e12) == pytest.approx(law.loss(7e10, 1.4e12), rel=0.005)


@pytest.mark.parametrize("law", [Law(2.0, 50.0, 0.3, 0.0, 1.0), Law(0.0, 50.0, 0.3, 0.0, 1.0)])
def test_a_law_of_parameters_alone_comes_back(law):
    found = fit_law(runs(law, tokens=(1e9,)))
    assert found.B == 0
    assert (found.E, found.a) == (pytest.approx(law.E, abs=0.02), pytest.approx(law.a, rel=0.02))
    assert found.best_split(1e20) is None


def test_the_best_split_is_the_lowest_loss_on_its_line():
    N, D = CHINCHILLA.best_split(1e21)
    assert pytest.approx(1e21) == 6 * N * D
    best = CHINCHILLA.loss(N, D)
    assert all(CHINCHILLA.loss(N * f, D / f) > best for f in (0.5, 0.9, 1.1, 2.0))


def test_the_run_that_took_most_is_predicted_from_the_others():
    found = report(runs(CHINCHILLA))["held_out"]
    assert (found["parameters"], found["tokens"]) == (6.4e8, 2.5e10)
    assert found["predicted"] == pytest.approx(found["loss"], rel=0.002)
    assert report(runs(CHINCHILLA, sizes=SIZES[:3], tokens=(1e9,)))["held_out"] is None


def test_runs_are_read_from_folders_and_lines(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    done = {
        "parameters": {"all": 900, "trained": 9},
        "tokens": 7000,
        "held_out_loss": {"held_out": {"before": 9, "after": 2.5}},
    }
    (folder / "report.json").write_text(json.dumps(done))
    (tmp_path / "table.jsonl").write_text('{"parameters": 1e6, "tokens": 2e7, "loss": 3.5}\n\n')
    found = read_runs([folder, tmp_path / "table.jsonl"])
    assert [(run.parameters, run.tokens, run.loss) for run in found] == [(900, 7000, 2.5), (1e6, 2e7, 3.5)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"parameters": 1, "tokens": 2}', r"table\.jsonl:1: loss='absent'"),
        ('{"parameters": -1, "tokens": 2, "loss": 3}', r"parameters=-1"),
        ('{"parameters": 1, "tokens": 2, "loss": NaN}', "loss=nan"),
        ("[1, 2, 3]", "parameters='absent'"),
        ("not json", "is no JSONL file"),
    ],
)
def test_a_line_that_is_no_run_is_named(text, says, tmp_path):
    (tmp_path / "table.jsonl").write_text(text)
    with pytest.raises(DataError, match=says):
        read_runs([tmp_path / "table.jsonl"])


def test_a_folder_without_a_finished_run_is_named(tmp_path):
    with pytest.raises(DataError, match=f"run='{tmp_path}': holds no finished run"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    "found", [runs(CHINCHILLA)[:2], runs(CHINCHILLA, SIZES[:2], (1e9, 2e9)), runs(CHINCHILLA, SIZES[:2])]
)
def test_too_few_runs_are_told(found):
    with pytest.raises(DataError, match=r"too few|two values"):
        fit_law(found)


def test_the_command(tmp_path):
    table = tmp_path / "runs.jsonl"
    table.write_text(
        "".join(
            json.dumps({"parameters": r.parameters, "tokens": r.tokens, "loss": r.loss}) + "\n"
            for r in runs(CHINCHILLA)
        )
    )
    asked = ["scaling", str(table), "--parameters", "7e10", "--tokens", "1.4e12", "--flops", "5.76e23"]
    result = CliRunner().invoke(app, [*asked, "--json"])
    found = json.loads(result.output)
    assert found["asked"]["loss"] == pytest.approx(CHINCHILLA.loss(7e10, 1.4e12), rel=0.005)
    assert found["split"]["parameters"] == pytest.approx(CHINCHILLA.best_split(5.76e23)[0], rel=0.1)
    assert "loss = 1.69" in CliRunner().invoke(app, asked).output
    result = CliRunner().invoke(app, ["scaling", str(table), "--parameters", "1e9"])
    assert isinstance(result.exception, ConfigError)
    assert "--tokens" in str(result.exception)
