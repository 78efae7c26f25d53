"""The texts of records and their words."""

import pytest

from cutaway.core.errors import DataError
from cutaway.data import read
from cutaway.data.read import Record, read_records
from cutaway.data.units import text_of, units, unspaced, words


def test_words_of_several_scripts():
    assert words("It’s 2 cats—两只猫, हिन्दी สวัสดี!") == ["It’s", "2", "cats", "两", "只", "猫", "हिन्दी", "สวัสดี"]
    assert words("… !? _") == []
    assert [unspaced(text) for text in ("一只 cat", "三只小猫 cat", "", "12")] == [False, True, False, False]


def test_paragraphs_and_lines_say_where_they_began(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \n\nthree\n\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"one\r\n\r\ntwo\r\n")
    paragraphs = [(one.value, one.where) for one in units(read_records(tmp_path), "paragraph")]
    assert paragraphs == [("one\ntwo", "a.txt:1"), ("three", "a.txt:6"), ("one\r", "b.txt:1"), ("two\r\n", "b.txt:3")]
    assert [one.where for one in units(read_records(tmp_path / "a.txt"), "line")] == ["a.txt:1", "a.txt:2", "a.txt:6"]
    assert len(list(units(read_records(tmp_path)))) == 2


def test_lines_are_counted_through_the_parts_of_a_long_file(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "DOCUMENT_CHARS", 20)
    (tmp_path / "a.txt").write_text("".join(f"line {i}\n" for i in range(1, 10)))
    (tmp_path / "b.txt").write_text("line 1\nline 2")
    found = [(one.value, one.where) for one in units(read_records(tmp_path), "line")]
    assert found == [(f"line {i}", f"a.txt:{i}") for i in range(1, 10)] + [("line 1", "b.txt:1"), ("line 2", "b.txt:2")]


def test_objects_are_not_cut():
    record = Record({"text": "a\n\nb"}, "x.jsonl:1")
    assert list(units([record], "paragraph")) == [record]


def test_the_text_of_a_record():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert text_of(Record({"messages": turns}, "a:1")) == "Hi\nHello"
    assert text_of(Record({"text": "one", "source": "web"}, "a:1")) == "one"
    assert text_of(Record({"question": "Why?", "answers": [{"text": "So"}, {"n": 3}]}, "a:1")) == "Why?\nSo"


@pytest.mark.parametrize(
    ("value", "says"), [({"n": 1}, "no text.*keys are"), ({"text": 3}, "must be text"), (7, "text or an object")]
)
def test_a_record_without_text_is_named(value, says):
    with pytest.raises(DataError, match=f"a.jsonl:4.*{says}"):
        text_of(Record(value, "a.jsonl:4"))
