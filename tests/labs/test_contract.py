"""The runner on labs made for the purpose: verdicts are computed from the numbers, and records are whole."""

import json
from dataclasses import replace

import pytest

from cutaway.core.errors import ConfigError
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Setting
from cutaway.labs.runner import conclusion, find_lab, run_lab, run_labs

WORDS = Bilingual("words", "文字")


def lab(height, limit=0.0) -> Lab:
    def draw(numbers):
        from matplotlib.figure import Figure

        figure = Figure()
        figure.add_subplot().plot(numbers["curve"])
        return figure

    return Lab(
        id=99,
        title=WORDS,
        claim=WORDS,
        fixed=WORDS,
        expected="supported",
        checks=(
            Claim("tall", Bilingual("it is tall", "高"), lambda n: n["height"] > 1),
            Limit("narrow", Bilingual("but narrow", "但窄"), lambda n: n["narrow"] > 0.5),
        ),
        measure=lambda setting: {"height": height(setting), "narrow": limit, "curve": [1.0, height(setting)]},
        draw=draw,
    )


@pytest.mark.parametrize(
    ("height", "limit", "expected"), [(2, 0, "supported"), (2, 1, "qualified"), (0, 0, "refuted"), (0, 1, "refuted")]
)
def test_verdict_comes_from_the_numbers(tmp_path, height, limit, expected):
    record = run_lab(lab(lambda s: height, limit), tmp_path, seeds=(0,), quick=True, model=None)
    assert record["verdict"] == expected
    assert ("but narrow" in record["conclusion"]["en"]) == (limit == 1)


def test_a_conclusion_is_sentences_with_or_without_a_full_stop_of_their_own():
    told = (
        Claim("one", Bilingual("it is tall", "高"), lambda n: True),
        Claim("two", Bilingual("It is old.", "老。"), lambda n: True),
    )
    found = conclusion(replace(lab(lambda s: 2.0), checks=told), {"one": True, "two": False})
    assert found == Bilingual("Holds: it is tall. Does not hold: It is old.", "成立：高。不成立：老。")


def test_record_holds_what_the_gallery_needs(tmp_path):
    run_lab(lab(lambda s: 2.0), tmp_path, seeds=(0,), quick=True, model=None)
    record = json.loads((tmp_path / "lab99.json").read_text())
    assert record["seeds"] == [0]
    assert record["checks"][0] == {
        "name": "tall",
        "kind": "claim",
        "says": {"en": "it is tall", "zh": "高"},
        "holds": True,
    }
    for plot in record["plots"]:
        assert (tmp_path / plot).stat().st_size > 500


def test_seeds_give_a_mean_and_a_confidence_interval(tmp_path):
    record = run_lab(lab(lambda s: 1.0 + s.seed), tmp_path, seeds=(0, 1, 2), quick=False, model=None)
    assert record["numbers"]["height"] == 2.0
    assert record["confidence_95"]["height"] == pytest.approx(4.303 * 1.0 / 3**0.5)
    assert record["confidence_95"]["curve"][0] == 0
    assert record["seeds_agreeing"] == 2  # with seed 0 the height is 1, which is not above 1


def test_what_every_seed_gave_stays_as_it_is(tmp_path):
    steady = replace(lab(lambda s: 2.0), measure=lambda setting: {"curve": [3, 4], "height": 2, "narrow": setting.seed})
    numbers = run_lab(steady, tmp_path, seeds=(0, 1), quick=False, model=None)["numbers"]
    assert numbers == {"curve": [3, 4], "height": 2, "narrow": 0.5}
    assert isinstance(numbers["height"], int)


def test_unknown_lab_is_named():
    with pytest.raises(ConfigError, match="no such lab"):
        find_lab(777)


def test_a_second_run_keeps_the_other_records(tmp_path, monkeypatch):
    from cutaway.labs import runner

    one, two = lab(lambda s: 2.0), lab(lambda s: 0.0)
    object.__setattr__(two, "id", 98)
    monkeypatch.setattr(runner, "find_lab", {99: one, 98: two}.__getitem__)
    run_labs([99], tmp_path)
    run_labs([98], tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(record["id"], record["verdict"]) for record in report] == [(98, "refuted"), (99, "supported")]


def test_setting_is_frozen():
    with pytest.raises(AttributeError):
        Setting().seed = 3
