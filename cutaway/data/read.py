"""Records from the user's files: text, Markdown, JSONL, JSON arrays and Parquet; one file, a folder or a pattern.

Files are streamed: a record is a string (text files) or a dictionary (the others), and says where it came from. What cannot
be read is a `DataError` that names the file and the place.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from cutaway.core.errors import DataError

TEXT, ROWS = (".txt", ".md", ".text"), (".jsonl", ".ndjson", ".json", ".parquet")
DOCUMENT_CHARS = 4_000_000  # a longer text file becomes several documents, cut at line ends where it has such


@dataclass(frozen=True)
class Record:
    """What a file held at one place (`train.jsonl:17`)."""

    value: Any
    where: str


def kind(file: Path) -> str:
    """The ending of a file's name, which says what is in it: of `TEXT` or `ROWS`, or another, which is read as text."""
    return file.suffix.lower()


def find_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The data files behind paths, folders (searched through) and patterns, sorted.

    Raises:
        DataError: no path is given, nothing is there, or a folder holds no data file.
    """
    if not isinstance(paths, str | Path) and not paths:
        raise DataError("no file, folder or pattern is named", field="data", hint="data.path is empty")
    found: list[Path] = []
    for given in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if kind(file) in TEXT + ROWS and file.is_file())
            if not inside:
                raise DataError(
                    "the folder holds no data file", field="data", value=str(given), hint=", ".join(TEXT + ROWS)
                )
            found += inside
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob(str(path), recursive=True)):
            found += [Path(match) for match in matches]
        else:
            raise DataError("no such file, folder or match", field="data", value=str(given))
    return found


def read_records(paths: str | Path | Sequence[str | Path], encoding: str = "utf-8") -> Iterator[Record]:
    """Every record of the files, in order.

    Raises:
        DataError: a file is missing, empty, binary, not in `encoding` or not of its kind; which, where and why.
    """
    for file in find_files(paths):
        count = 0
        try:
            for record in _read(file, encoding):
                count += 1
                yield record
        except PermissionError:
            raise DataError("may not be read (no permission)", field="data", value=str(file)) from None
        except IsADirectoryError:
            raise DataError("is a folder", field="data", value=str(file)) from None
        if not count:
            raise DataError("is empty", field="data", value=str(file))


def read_lines(file: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, gzipped or not, without their ends.

    Raises:
        DataError: it is missing, damaged, binary or not in `encoding`; where.
    """
    try:
        for line in _lines(file, encoding, zipped=file.suffix == ".gz"):
            yield line.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise DataError("no such file", field="data", value=str(file)) from None
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"cannot be read: {err}", field="data", value=str(file)) from None


def _read(file: Path, encoding: str) -> Iterator[Record]:
    match kind(file):
        case ".jsonl" | ".ndjson":
            return _read_jsonl(file, encoding)
        case ".json":
            return _read_json(file, encoding)
        case ".parquet":
            return _read_parquet(file)
    return _read_text(file, encoding)


def _lines(file: Path, encoding: str, longest: int = -1, zipped: bool = False) -> Iterator[str]:
    """Lines of a text file, in parts where they have more than `longest` bytes; names the byte where the encoding fails."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError("unknown encoding", field="data.encoding", value=encoding) from None
    number, place, line = 1, 0, ""
    with gzip.open(file) if zipped else file.open("rb") as opened:
        while True:
            part = opened.readline(longest)
            if b"\0" in part and encoding.replace("-", "").lower().startswith("utf8"):
                raise DataError(f"is binary (a zero byte in line {number})", field="data", value=str(file))
            try:
                text = decoder.decode(part, final=not part)
            except UnicodeDecodeError as err:  # counted from bytes of the part before, if a character began there
                raise DataError(
                    f"is not {encoding}: byte {place + len(part) - len(err.object) + err.start} in line {number}",
                    field="data",
                    value=str(file),
                    hint="set data.encoding (or --encoding), for example gb18030 or latin-1",
                ) from None
            # Where characters take several bytes, a part may end within a line (上 is 0A 4E in UTF-16), or begin with its end.
            *whole, line = (line + (text.removeprefix("\ufeff") if place == 0 else text)).split("\n")
            yield from (f"{one}\n" for one in whole)
            if line and (not part or len(part) == longest):
                yield line
                line = ""
            if not part:
                return
            number, place = number + part.endswith(b"\n"), place + len(part)


def _read_text(file: Path, encoding: str) -> Iterator[Record]:
    part: list[str] = []
    length = 0
    for number, line in enumerate(_lines(file, encoding, DOCUMENT_CHARS), 1):
        part.append(line)
        length += len(line)
        if length >= DOCUMENT_CHARS:
            yield Record("".join(part), f"{file.name}:{number}")
            part, length = [], 0
    if "".join(part).strip():
        yield Record("".join(part), file.name)


def _read_jsonl(file: Path, encoding: str) -> Iterator[Record]:
    for number, line in enumerate(_lines(file, encoding), 1):
        if line.strip():
            try:
                yield Record(json.loads(line), f"{file.name}:{number}")
            except (ValueError, RecursionError) as err:
                raise DataError(f"line {number} is not JSON: {err}", field="data", value=str(file)) from None


def _read_json(file: Path, encoding: str) -> Iterator[Record]:
    try:
        values = json.loads("".join(_lines(file, encoding)) or "[]")
    except (ValueError, RecursionError) as err:
        raise DataError(f"is not JSON: {err}", field="data", value=str(file)) from None
    if not isinstance(values, list):
        raise DataError("is not an array of records", field="data", value=str(file))
    for number, value in enumerate(values):
        yield Record(value, f"{file.name}[{number}]")


def _read_parquet(file: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(file)
        number = 0
        for group in opened.iter_batches():
            for row in group.to_pylist():
                yield Record(row, f"{file.name}[{number}]")
                number += 1
    except PermissionError:
        raise
    except (pyarrow.ArrowException, OSError) as err:  # a corrupt page is an OSError there
        raise DataError(f"is not a whole Parquet file: {err}", field="data", value=str(file)) from None
