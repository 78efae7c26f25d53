"""Files become documents: plain text, Markdown, HTML and PDF, with sections that keep their place in the text.

What a file says is data and never an instruction: scripts, styles and hidden parts of HTML are dropped, and nothing in a
document is run, fetched or followed.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cutaway.core.errors import DataError

MAX_BYTES = 64 * 1024 * 1024
_HEADING = re.compile(r"(#{1,6})(?:\s+(.*))?")
_CLOSING = re.compile(r"(?:^|\s)#+$")  # of a heading; "C#" keeps its own
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Section:
    """A stretch of a document: `text[start:end]`, the headings above it, and its page (from 1) where there are pages."""

    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class Document:
    """A file as text. `source` is the path as the reader knows it; the sections are in order and do not overlap."""

    source: str
    title: str
    text: str
    sections: tuple[Section, ...]


def load_document(path: Path, source: str | None = None) -> Document:
    """Read one file.

    Args:
        path: a `.txt`, `.md`, `.html` or `.pdf` file (`LOADERS` lists the endings).
        source: what to call it; the path itself by default.

    Raises:
        DataError: missing, unreadable, empty, too large, binary, not UTF-8, encrypted, a scan without text, or an unknown kind.
    """
    name = source or written(path)
    return parse(read_bytes(path, name), path, name)


def written(path: Path) -> str:
    r"""A path as text, with forward slashes. Names need not be UTF-8: their other bytes are written as `\xe9`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def read_bytes(path: Path, name: str) -> bytes:
    """What a file holds; its errors call it `name`.

    Raises:
        DataError: missing, unreadable, too large, or no ordinary file: a pipe would wait for ever.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is no file", field="file", value=name)
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 2**20:.0f} MB"
            raise DataError(f"holds {size}", field="file", value=name, hint=f"{MAX_BYTES >> 20} MB at most: split it")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", field="file", value=name) from None
    except OSError as err:
        raise DataError(f"cannot be read: {err.strerror}", field="file", value=name) from None


def parse(data: bytes, path: Path, name: str) -> Document:
    """A file's bytes as a document; the ending of its path says of what kind they are.

    Raises:
        DataError: an unknown kind, or what `load_document` says of contents.
    """
    loader = LOADERS.get(path.suffix.lower())
    if loader is None:
        raise DataError("is of no kind that can be read", field="file", value=name, hint=f"known: {' '.join(LOADERS)}")
    document = loader(data, name, written(Path(path.stem)))
    if not document.sections or not document.text.strip():
        raise DataError("holds no text", field="file", value=name)
    return document


def find_documents(folder: Path, skipped: dict[str, str]) -> Iterator[Path]:
    """The readable kinds of file under `folder`, sorted; hidden ones are left out, unreadable folders go into `skipped`."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as err:
        skipped[written(folder)] = f"cannot be read: {err.strerror}"
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from find_documents(entry, skipped)
        elif entry.suffix.lower() in LOADERS:
            yield entry


def _is_folder(entry: Path) -> bool:
    try:
        return entry.is_dir() and not entry.is_symlink()
    except OSError:  # not even its kind may be known: reading it as a file tells why
        return False


def markdown_sections(text: str) -> tuple[Section, ...]:
    """The parts between headings, each with the headings above it; lines in code fences are never headings.

    >>> [(s.headings, "# A\\nx\\n## B\\ny"[s.start:s.end]) for s in markdown_sections("# A\\nx\\n## B\\ny")]
    [(('A',), 'x\\n'), (('A', 'B'), 'y')]
    """
    sections: list[Section] = []
    above: list[tuple[int, str]] = []
    start = position = 0
    fenced = False

    def close(end: int) -> None:
        if text[start:end].strip():
            sections.append(Section(start, end, tuple(title for _, title in above)))

    for line in text.splitlines(keepends=True):
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.fullmatch(line.rstrip())
        if heading:
            close(position)
            level = len(heading[1])
            above = [
                *((n, title) for n, title in above if n < level),
                (level, _CLOSING.sub("", heading[2] or "").rstrip()),
            ]
            start = position + len(line)
        position += len(line)
    close(position)
    return tuple(sections)


def _text(data: bytes, name: str, stem: str) -> Document:
    text = _decode(data, name)
    return Document(name, stem, text, (Section(0, len(text)),))


def _markdown(data: bytes, name: str, stem: str) -> Document:
    text = _decode(data, name)
    sections = markdown_sections(text)
    first = next((section.headings[0] for section in sections if section.headings), stem)
    return Document(name, first, text, sections)


def _html(data: bytes, name: str, stem: str) -> Document:
    import trafilatura

    tree = trafilatura.load_html(_decode(data, name))
    text = None
    if tree is not None:
        text = trafilatura.extract(tree, output_format="markdown", include_comments=False, favor_recall=True)
    if tree is None or not text:
        raise DataError("holds no text", field="file", value=name)
    title = tree.findtext(".//title") or stem
    return Document(name, " ".join(title.split()), text, markdown_sections(text))


def _pdf(data: bytes, name: str, stem: str) -> Document:
    import logging
    from io import BytesIO

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it grumbles about files without naming them
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError("is encrypted", field="file", value=name, hint="save it without a password")
        pages = [page.extract_text() for page in reader.pages]
        title = (reader.metadata.title if reader.metadata else None) or stem
    except DataError:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as err:
        raise DataError(f"is not a sound PDF: {err}", field="file", value=name) from None
    if not any(page.strip() for page in pages):
        raise DataError("is a PDF without text, perhaps a scan", field="file", value=name, hint="run OCR on it first")
    sections, text = [], ""
    for number, page in enumerate(pages, 1):
        start, text = len(text), text + _clean(page) + "\n\n"
        if page.strip():
            sections.append(Section(start, len(text), page=number))
    return Document(name, str(title), text, tuple(sections))


def _decode(data: bytes, name: str) -> str:
    encoding, codec = ("UTF-16", "utf-16") if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("UTF-8", "utf-8-sig")
    if b"\0" in data[:8192] and encoding == "UTF-8":
        raise DataError("is binary, not text", field="file", value=name)
    try:
        return data.decode(codec)
    except UnicodeDecodeError as err:
        raise DataError(
            f"is not {encoding}: byte {err.start} is {data[err.start]:#04x}",
            field="file",
            value=name,
            hint="convert it: iconv -f ENCODING -t UTF-8 OLD > NEW",
        ) from None


def _clean(page: str) -> str:
    """Lone surrogates and NULs, which broken fonts produce, cannot be stored."""
    return page.encode("utf-8", "replace").decode().replace("\0", "")


LOADERS: dict[str, Callable[[bytes, str, str], Document]] = {
    ".txt": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
