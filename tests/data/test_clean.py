"""Repairing and dropping records, and saying why."""

import json
import sys

import pytest

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError, ResourceError
from cutaway.data import language, quality
from cutaway.data.clean import CleanConfig, CleanReport, clean, write_jsonl
from cutaway.data.read import Record, read_records

PROSE = (
    "The river had risen in the night, and by the morning the lower fields lay under water. Nobody in the village was "
    "surprised. They had moved the sheep two days before, when the wind turned, and now they stood on the bridge with "
    "their hands in their pockets and watched the fences disappear one after another into the brown water."
)
ZH = "河水在夜里涨了起来，到了早晨，低处的田地都淹在水下。村里没有人觉得奇怪，两天前风向一变，他们就把羊群赶到了山上。"


def run(texts, *settings):
    report = CleanReport()
    records = [Record(text, f"a.jsonl:{i}") for i, text in enumerate(texts, 1)]
    kept = [one.value for one in clean(records, load_config(CleanConfig, None, settings), report)]
    assert report.read == report.kept + sum(report.dropped.counts.values())
    return kept, report.dropped.counts, report


def test_every_reason_is_counted_with_its_first_place():
    texts = [
        PROSE,
        "",
        " \n",
        "ok",
        PROSE.upper(),
        PROSE + " Nothing else.",
        "Was soll das heißen, fragte sie ihn.",
        ZH,
    ]
    kept, dropped, report = run(texts, "min_words=2", "languages=[en,zh]")
    assert kept == [PROSE, ZH]
    assert dropped == {"empty": 2, "too few words": 1, "exact duplicate": 1, "near duplicate": 1, "language de": 1}
    assert report.dropped.first["empty"] == "a.jsonl:2"
    assert [one.first for one in report.duplicates] == ["a.jsonl:1", "a.jsonl:1"]


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        ("<<>> == || ++ ab", [], "symbols"),
        ("call 0123 456 789", [], "digits"),
        ("half \ufffd\ufffd of it", [], "broken characters"),
        ("half \x01\x02 of it", ["repair=false"], "broken characters"),
        ("one two three", ["max_words=2"], "too many words"),
        ("一二三", ["max_words=2"], "too many words"),
        ("one two three", ["gopher={}"], "gopher: too few words"),
        ("a b " * 40, ["gopher={}"], "gopher: length of words"),
        (PROSE + " 1 2 3" * 20, ["gopher.min_word_length=0"], "gopher: words without letters"),
        ("# " * 20 + PROSE, ["gopher={}", "max_symbols=1"], "gopher: hashes or ellipses"),
        ("- " + PROSE.replace(". ", ".\n- "), ["gopher={}"], "gopher: bullet lines"),
        (PROSE.replace(". ", "…\n") + "…", ["gopher={}"], "gopher: ellipsis lines"),
        (PROSE + "\nBuy now!" * 9, ["gopher={}"], "gopher: repeated lines"),
        (f"{PROSE}\n{PROSE}\nIt\nis\nso\nsaid\nhe", ["gopher={}"], "gopher: characters in repeated lines"),
        (PROSE + " terms and conditions" * 9, ["gopher={}"], "gopher: one 2-gram again and again"),
        (PROSE + " " + PROSE, ["gopher={}"], "gopher: repeated 5-grams"),
        (ZH + ZH, ["gopher={}"], "gopher: repeated 5-grams"),
    ],
)
def test_what_is_dropped(text, settings, reason):
    assert run([text], *settings)[1] == {reason: 1}


@pytest.mark.parametrize("text", [PROSE, ZH, PROSE + "\n" + ZH])
def test_prose_passes_every_rule(text):
    assert run([text], "gopher={}", "languages=[en,zh]")[0] == [text]


def test_repair_mends_every_text_of_a_record_and_leaves_good_text_alone():
    good = "“Quotes”，全角！ ﬁ &amp; 𝒳 👩‍🚀\tTab"
    record = {
        "prompt": "caf\u00c3\u00a9",
        "chosen": "don\u00e2\u20ac\u2122t\x00",
        "rejected": good,
        "n": 1,
        "tags": ["a\r\nb"],
    }
    kept, _, report = run([record, {"text": good}])
    assert kept == [{"prompt": "café", "chosen": "don’t", "rejected": good, "n": 1, "tags": ["a\nb"]}, {"text": good}]
    assert report.repaired == 1
    assert run([record], "repair=false", "max_broken=1")[0] == [record]


def test_a_malformed_record_stops_or_is_counted():
    rows = [{"text": 3}, {"text": "fine"}]
    with pytest.raises(DataError, match=r"a\.jsonl:1 text.*must be text"):
        run(rows)
    assert run(rows, "malformed=drop")[:2] == ([{"text": "fine"}], {"malformed": 1})


def test_paragraphs_become_records(tmp_path):
    (tmp_path / "a.txt").write_text(f"{PROSE}\n\n{PROSE}\n\n{ZH}\n", encoding="utf-8")
    report = CleanReport()
    write_jsonl(clean(read_records(tmp_path), CleanConfig(by="paragraph"), report), tmp_path / "out.jsonl")
    assert [one.value for one in read_records(tmp_path / "out.jsonl")] == [{"text": PROSE}, {"text": ZH + "\n"}]
    assert str(report.dropped) == "1 exact duplicate (first: a.txt:3)"


def test_cleaning_twice_changes_nothing():
    once = run([PROSE, "caf\u00c3\u00a9 au lait", PROSE, {"text": "bad\x00"}])[0]
    again, dropped, report = run(once)
    assert (again, dropped, report.repaired) == (once, {}, 0)


def test_nothing_left_writes_nothing(tmp_path):
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(DataError, match="nothing is left"):
        write_jsonl(clean([Record("", "a:1")], CleanConfig(), CleanReport()), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "old"


def test_what_json_cannot_say_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet\[3\].*bytes"):
        write_jsonl([Record({"text": "a", "image": b"\0"}, "a.parquet[3]")], tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_lone_surrogates_survive_as_json_escapes(tmp_path):
    write_jsonl([Record({"text": "é \ud800"}, "a:1")], tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8")) == {"text": "é \ud800"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("languages=[english]", "languages='english': unknown language"),
        ("min_words=5 max_words=4", "nothing would be kept"),
        ("max_digits=50", "max_digits"),
        ("gopher.max_bullets=1", "max_bullet_lines"),
        ("duplicates.threshold=2", "duplicates.threshold"),
        ("by=word", "by"),
    ],
)
def test_wrong_settings_are_named(given, says):
    with pytest.raises(ConfigError, match=says):
        load_config(CleanConfig, None, given.split())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    with pytest.raises(ResourceError, match="py3langid"):
        CleanConfig(languages=("en",))


def test_languages():
    assert [language.language(text) for text in (PROSE, ZH, "", "ok", "12 34")] == ["en", "zh", "und", "und", "und"]
    assert language.language(PROSE + "\ud800") == "en"


def test_shares_by_hand():
    assert quality.symbols("a+b #") == 0.5
    assert quality.digits("a1 ٣b") == 0.5
    assert quality.repeated_lines(["a", "b", "a", "a"]) == 0.5
    assert quality.repeated_line_characters(["aaa", "b", "aaa"]) == pytest.approx(3 / 7)
    assert quality.top_ngram(["x", "y", "z", "x", "y", "w"], 2) == pytest.approx(4 / 6)
    assert quality.top_ngram(["a", "a", "a", "a"], 2) == 1  # three overlapping occurrences, four words
    assert quality.top_ngram(["a", "b", "c"], 2) == 0
    assert quality.repeated_ngrams(["a", "b", "a", "b", "c", "d", "e"], 2) == pytest.approx(4 / 7)
    assert all(one([]) == 0 for one in (quality.bullet_lines, quality.ellipsis_lines, quality.repeated_lines))
