"""Reading what users have, and saying what is wrong with the rest."""

import gzip
import json
import os

import pyarrow
import pytest
from pyarrow import parquet

from cutaway.core.errors import DataError
from cutaway.data import read
from cutaway.data.read import find_files, read_lines, read_records


def values(path, **settings):
    return [record.value for record in read_records(path, **settings)]


ROWS = [{"text": "one"}, {"text": "二"}]


def test_every_kind_of_file_gives_the_same_records(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(ROWS), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    assert all(values(tmp_path / name) == ROWS for name in ("a.jsonl", "b.json", "c.parquet"))
    assert [record.where for record in read_records(tmp_path / "a.jsonl")] == ["a.jsonl:1", "a.jsonl:2"]
    assert [record.where for record in read_records(tmp_path / "c.parquet")] == ["c.parquet[0]", "c.parquet[1]"]


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "a.md").write_bytes(b"# Titel\r\n\r\nText\n")
    assert values(tmp_path / "a.md") == ["# Titel\r\n\r\nText\n"]


def test_a_byte_order_mark_is_left_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfword")
    assert values(tmp_path / "a.txt") == ["word"]


def test_a_long_text_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "DOCUMENT_CHARS", 10)
    text = "".join(f"line {i}\n" for i in range(9))
    (tmp_path / "a.txt").write_text(text)
    parts = values(tmp_path / "a.txt")
    assert len(parts) > 3
    assert "".join(parts) == text


def test_a_text_without_line_ends_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "DOCUMENT_CHARS", 1000)
    text = "每字三字节" * 2000
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parts = values(tmp_path / "a.txt")
    assert len(parts) > 3
    assert "".join(parts) == text


def test_folders_and_patterns(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b.txt", "a.txt", "in/c.jsonl", "picture.png"):
        (tmp_path / name).write_text('"x"')
    assert [file.name for file in find_files(tmp_path)] == ["a.txt", "b.txt", "c.jsonl"]
    assert [file.name for file in find_files(str(tmp_path / "*.txt"))] == ["a.txt", "b.txt"]
    assert [file.name for file in find_files([tmp_path / "b.txt", tmp_path / "in"])] == ["b.txt", "c.jsonl"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le"])
def test_another_encoding(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("你好\n世界\n".encode(encoding))
    assert values(tmp_path / "a.txt", encoding=encoding) == ["你好\n世界\n"]
    (tmp_path / "a.jsonl").write_bytes('["你好"]\n["世界"]\n'.encode(encoding))
    assert values(tmp_path / "a.jsonl", encoding=encoding) == [["你好"], ["世界"]]


def test_a_character_that_is_cut_short_at_the_end_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("ab\n你".encode()[:-1])
    with pytest.raises(DataError, match="byte 3 in line 2"):
        values(tmp_path / "a.txt")


BAD = [
    ("empty.txt", b"", "is empty"),
    ("blank.jsonl", b"\n\n", "is empty"),
    ("nul.txt", b"text\n\x00\x01", "is binary.*line 2"),
    ("latin.txt", b"good\ncaf\xe9 au lait\n", "byte 8 in line 2.*data.encoding"),
    ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "byte 27 in line 2"),
    ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
    ("broken.json", b'[{"text": "a"}', "is not JSON"),
    ("object.json", b'{"text": "a"}', "not an array"),
    ("deep.json", b"[" * 200_000, "is not JSON"),
    ("deep.jsonl", b'{"text": "a"}\n' + b"[" * 200_000, "line 2 is not JSON"),
    ("nul.json", b"\x00", "is binary"),
    ("cut.parquet", b"PAR1....", "not a whole Parquet file"),
    ("empty.parquet", b"", "Parquet|empty"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[name for name, *_ in BAD])
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as err:
        values(tmp_path / name)
    assert name in str(err.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"])
def test_lines_of_any_encoding(tmp_path, encoding):
    """In UTF-16, 上 and Ċ hold the byte that ends lines elsewhere."""
    texts = ["海上生明月", "Ċ ਅ ends", "", "last"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines, encoding=encoding)
    (tmp_path / "a.txt").write_text("\n".join(texts), encoding=encoding)
    assert [value["text"] for value in values(tmp_path / "a.jsonl", encoding=encoding)] == texts
    assert values(tmp_path / "a.txt", encoding=encoding) == ["\n".join(texts)]


def test_endings_in_capitals_say_the_same(tmp_path):
    (tmp_path / "A.JSONL").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "B.Json").write_text('[{"text": "c"}]')
    assert [value["text"] for value in values(tmp_path)] == ["a", "b", "c"]


def test_a_parquet_file_with_a_corrupt_column_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "word " * i} for i in range(200)]), path)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet"):
        values(path)


def test_missing_and_hopeless_places(tmp_path):
    for path, message in (
        (tmp_path / "no.txt", "no such file"),
        (tmp_path / "*.txt", "no such"),
        (tmp_path, "no data"),
        ((), "data.path is empty"),
    ):
        with pytest.raises(DataError, match=message):
            find_files(path)


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_lines_without_their_ends(tmp_path, opener):
    file = tmp_path / ("a.gz" if opener is gzip.open else "a.txt")
    with opener(file, "wb") as opened:
        opened.write("\ufeffone\r\n\ntwo 上\nthree".encode())
    assert list(read_lines(file)) == ["one", "", "two 上", "three"]
    with opener(file, "wb") as opened:
        opened.write(b"fine\n\xff")
    with pytest.raises(DataError, match="byte 5 in line 2"):
        list(read_lines(file))


def test_a_damaged_archive_is_named(tmp_path):
    whole = gzip.compress(bytes(range(1, 100)) * 9)
    for content in (b"no", whole[:-9], whole[:12] + b"\xff\xff\xff" + whole[15:]):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.gz"):
            list(read_lines(tmp_path / "a.gz"))
    with pytest.raises(DataError, match="no such file"):
        list(read_lines(tmp_path / "b.gz"))


def test_an_unknown_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match=r"data\.encoding='utf-9'"):
        values(tmp_path / "a.txt", encoding="utf-9")


def test_no_permission(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("a")
    if os.geteuid() == 0:  # root may read everything

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied", str(file))

        monkeypatch.setattr(type(file), "open", refuse)
    else:
        file.chmod(0)
    with pytest.raises(DataError, match="no permission"):
        values(file)


def test_records_are_streamed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 3 + "not JSON\n")
    records = read_records(tmp_path / "a.jsonl")
    assert [next(records).value["text"] for _ in range(3)] == ["a"] * 3
    with pytest.raises(DataError, match="line 4"):
        next(records)
