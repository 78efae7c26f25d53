"""Cleaning records: repair what can be, drop what should not be learned, and say what was dropped and why.

    report = CleanReport()
    for record in clean(read_records("in.jsonl"), CleanConfig(languages=("en",)), report): ...
    report.dropped.counts      {"empty": 3, "language de": 12, "near duplicate": 40, …}

A record is dropped for the first rule that it breaks; duplicates are looked for among those that break none.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from json import dumps
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import DataError
from cutaway.core.files import new_file
from cutaway.data import quality
from cutaway.data.duplicates import Duplicate, DuplicateConfig, Mark, Seen, mark
from cutaway.data.examples import Skipped
from cutaway.data.language import check_languages, language
from cutaway.data.quality import GopherConfig
from cutaway.data.read import Record
from cutaway.data.units import Unit, text_of, units, words
from cutaway.data.workers import WorkersConfig, in_order


class CleanConfig(Config):
    """What is repaired and what is kept."""

    by: Unit = Field("record", description="cut text files into paragraphs or lines first, each a record of its own")
    malformed: Literal["error", "drop"] = Field("error", description="a record of a broken shape")
    repair: bool = Field(True, description="undo mojibake, remove control characters and terminal escapes (ftfy), NFC")
    min_words: int = Field(1, ge=0, description="words of other scripts, characters of Chinese and Japanese")
    max_words: int | None = Field(None, ge=1)
    languages: tuple[str, ...] = Field((), description="codes to keep, with `und` for the undetermined; empty: all")
    max_broken: float = Field(0.01, ge=0, le=1, description="share of characters that stand for nothing")
    max_symbols: float = Field(0.3, ge=0, le=1, description="share of symbols in visible characters")
    max_digits: float = Field(0.5, ge=0, le=1, description="share of digits in visible characters")
    gopher: GopherConfig | None = Field(
        None, description="rules for pages of the web: {} for their usual limits; null: none"
    )
    duplicates: DuplicateConfig | None = Field(DuplicateConfig(), description="null keeps duplicates")
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "CleanConfig":
        if self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(
                f"min_words={self.min_words} is more than max_words={self.max_words}: nothing would be kept"
            )
        check_languages(self.languages, "languages")
        return self


@dataclass
class CleanReport:
    """What `clean` did: records read, kept and changed; per reason how many were dropped, and where the first stood."""

    read: int = 0
    kept: int = 0
    repaired: int = 0
    dropped: Skipped = field(default_factory=Skipped)
    duplicates: list[Duplicate] = field(default_factory=list)


def clean(records: Iterable[Record], config: CleanConfig, report: CleanReport) -> Iterator[Record]:
    """The records that are kept, repaired; `report` is filled on the way. Each is looked at by a worker; what was seen before is
    remembered here.

    Raises:
        DataError: a record is malformed, and is not to be dropped for it. ResourceError: of the workers.
    """
    seen = Seen(config.duplicates) if config.duplicates else None
    judged = in_order(partial(_judge, config), units(records, config.by), config.workers)
    for one in chain.from_iterable(judged):
        report.read += 1
        where = one.record.where
        if isinstance(one.fault, DataError):
            if config.malformed == "error":
                raise one.fault
            report.dropped.add("malformed", where)
        elif one.fault:
            report.dropped.add(one.fault, where)
        elif seen and one.mark and (duplicate := seen.add_mark(one.mark, where)):
            report.dropped.add("exact duplicate" if duplicate.exact else "near duplicate", where)
            report.duplicates.append(duplicate)
        else:
            report.kept += 1
            report.repaired += one.changed
            yield one.record


@dataclass(frozen=True)
class _Judged:
    """A record, repaired, and what there is to say of it alone."""

    record: Record
    changed: bool
    fault: str | DataError | None
    mark: Mark | None = None


def _judge(config: CleanConfig, records: list[Record]) -> list[_Judged]:
    return [_judged(record, config) for record in records]


def _judged(record: Record, config: CleanConfig) -> _Judged:
    whole = Record(_repair(record.value), record.where) if config.repair else record
    changed = whole.value != record.value
    try:
        text = text_of(whole)
    except DataError as err:
        return _Judged(whole, changed, err)
    if fault := next(faults(text, config), None):
        return _Judged(whole, changed, fault)
    return _Judged(whole, changed, None, mark(text, config.duplicates) if config.duplicates else None)


def faults(text: str, config: CleanConfig) -> Iterator[str]:
    """The rules that a text breaks, each judged when it is asked for."""
    if not text.strip():
        yield "empty"
    listed = words(text)
    if len(listed) < config.min_words:
        yield "too few words"
    if config.max_words is not None and len(listed) > config.max_words:
        yield "too many words"
    if quality.broken_characters(text) > config.max_broken:
        yield "broken characters"
    if quality.symbols(text) > config.max_symbols:
        yield "symbols"
    if quality.digits(text) > config.max_digits:
        yield "digits"
    if config.languages and (found := language(text)) not in config.languages:
        yield f"language {found}"
    if config.gopher:
        yield from quality.gopher_faults(text, listed, config.gopher)


def write_jsonl(records: Iterable[Record], out: Path, dropped: Skipped | None = None) -> int:
    """Write records, bare text as `{"text": …}`, and say how many; the file is there whole or not at all.

    Args:
        dropped: what was left out before, to be named should nothing be left.

    Raises:
        DataError: there is none, or one holds what JSON cannot say (bytes of an image, a date); where.
    """
    count = 0
    with new_file(out) as temporary, temporary.open("wb") as file:
        for record in records:
            value = {"text": record.value} if isinstance(record.value, str) else record.value
            try:
                line = dumps(value, ensure_ascii=False)
            except TypeError as err:
                raise DataError(f"cannot be written as JSON: {err}", field=record.where) from None
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")  # for a lone surrogate, JSON's own escape
            count += 1
        if not count:
            raise DataError("nothing is left to write", field="out", value=str(out), hint=str(dropped or "") or None)
    return count


def _repair(value: Any) -> Any:
    """Every string of a record mended; keys, numbers and the rest as they are."""
    if isinstance(value, str):
        return _mend(value)
    if isinstance(value, Mapping):
        return {key: _repair(inner) for key, inner in value.items()}
    return [_repair(inner) for inner in value] if isinstance(value, list) else value


def _mend(text: str) -> str:
    """ftfy, without what it does to good text: curly quotes, wide punctuation, ligatures and HTML entities stay."""
    from ftfy import fix_text

    return fix_text(
        text, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, unescape_html=False
    )
