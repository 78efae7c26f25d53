"""Files to documents: what is kept, and what each kind of bad file is told."""

import os
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from cutaway.core.errors import DataError
from cutaway.retrieve import load
from cutaway.retrieve.load import find_documents, load_document, markdown_sections


def pdf(path: Path, pages: list[str], password: str | None = None) -> Path:
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)
    return path


def test_markdown_keeps_headings_and_places(tmp_path: Path):
    text = "# Guide\nIntro.\n\n## Part\n```\n# no heading\n```\nBody.\n# Other\nEnd."
    (tmp_path / "a.md").write_text(text)
    document = load_document(tmp_path / "a.md")
    assert document.title == "Guide"
    assert [s.headings for s in document.sections] == [("Guide",), ("Guide", "Part"), ("Other",)]
    assert "# no heading" in text[document.sections[1].start : document.sections[1].end]
    assert markdown_sections("") == ()


def test_headings_as_they_are_written():
    def headings(text: str) -> list[tuple[str, ...]]:
        return [section.headings for section in markdown_sections(text)]

    assert headings("# Closed ##\nx\n## C#\ny\n#hashtag\n") == [("Closed",), ("Closed", "C#")]
    assert headings("#\nx\n## # #\ny") == [("",), ("", "#")]
    wide = "a" + " " * 20_000 + "b"  # what a pattern may take years for
    assert headings(f"# {wide}\nx") == [(wide,)]


def test_names_need_not_be_utf8(tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("Open until five.")
    document = load_document(path)
    assert document.source == f"{tmp_path}/caf\\xe9.txt"
    assert document.title == "caf\\xe9"


def test_html_loses_scripts(tmp_path: Path):
    body = "<h1>Heat</h1><p>" + "Copper conducts heat well. " * 8 + "</p>"
    (tmp_path / "a.html").write_text(
        f"<html><head><title>On heat</title><script>alert('x')</script></head><body><article>{body}</article></body></html>"
    )
    document = load_document(tmp_path / "a.html")
    assert document.title == "On heat"
    assert "Copper conducts" in document.text
    assert "alert" not in document.text


def test_pdf_keeps_pages(tmp_path: Path):
    document = load_document(pdf(tmp_path / "a.pdf", ["First page here", "", "Third page here"]))
    assert [section.page for section in document.sections] == [1, 3]
    last = document.sections[1]
    assert document.text[last.start : last.end].strip() == "Third page here"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"", "no text"),
        ("a.md", b"  \n", "no text"),
        ("a.md", b"# Only\n## Headings\n", "no text"),
        ("a.txt", b"a\0b", "binary"),
        ("a.txt", "é".encode("latin-1"), "not UTF-8"),
        ("a.html", b"<html></html>", "no text"),
        ("a.pdf", b"not a pdf", "not a sound PDF"),
        ("a.pdf", b"%PDF-1.4\n1 0 obj\n<<", "not a sound PDF"),
        ("a.docx", b"x", "kind"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_files(tmp_path: Path, name: str, content: bytes, told: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        load_document(tmp_path / name)


def test_more_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="no such file"):
        load_document(tmp_path / "none.txt")
    with pytest.raises(DataError, match="scan"):
        load_document(pdf(tmp_path / "scan.pdf", ["", ""]))
    with pytest.raises(DataError, match="encrypted"):
        load_document(pdf(tmp_path / "locked.pdf", ["secret"], password="p"))
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="no file"):
        load_document(tmp_path / "pipe.txt")
    monkeypatch.setattr(load, "MAX_BYTES", 3)
    (tmp_path / "huge.txt").write_text("four")
    with pytest.raises(DataError, match="at most"):
        load_document(tmp_path / "huge.txt")


def test_utf16_with_a_mark_is_read(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("温度".encode("utf-16"))
    assert load_document(tmp_path / "a.txt").text == "温度"


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "b").mkdir()
    for name in ("b/x.md", "a.txt", ".hidden.txt", "c.png"):
        (tmp_path / name).write_text("x")
    skipped: dict[str, str] = {}
    assert [p.name for p in find_documents(tmp_path, skipped)] == ["a.txt", "x.md"]
    real = Path.iterdir

    def refused(self: Path):
        if self.name == "b":
            raise PermissionError(13, os.strerror(13))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert [p.name for p in find_documents(tmp_path, skipped)] == ["a.txt"]
    assert skipped == {str(tmp_path / "b"): "cannot be read: Permission denied"}

    def unknown(self: Path):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "is_dir", unknown)
    assert [p.name for p in find_documents(tmp_path, skipped)] == ["a.txt"], "reading it tells why it cannot be read"
