"""The user's tables of words, and finding such words in a text.

A table is a JSON file, `{"glad": ["happy", "pleased"], "he": "she"}` or `[["he", "she"], …]`, or lines of words with tabs
between.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import regex

from cutaway.core.errors import DataError
from cutaway.data.units import UNSPACED

_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]"


def read_table(path: Path) -> dict[str, list[str]]:
    """Words and what stands beside each, as the file has them.

    Raises:
        DataError: no such file, not UTF-8, not a table, or an empty one; which line.
    """
    value = read_json(path) if path.suffix == ".json" else _read_tsv(path)
    rows = value.items() if isinstance(value, Mapping) else value
    table: dict[str, list[str]] = {}
    for number, row in enumerate(rows if isinstance(value, Mapping | list) else [], 1):
        word, *others = _row(row)
        if not others or not all(isinstance(one, str) and one.strip() for one in (word, *others)):
            raise DataError(
                f"row {number} is not a word and others beside it",
                field="table",
                value=str(path),
                hint=f"it is {row!r}",
            )
        table.setdefault(word.strip(), []).extend(one.strip() for one in others)
    if not table:
        raise DataError("holds no table of words", field="table", value=str(path), hint='{"glad": ["happy"]}')
    return table


def read_json(path: Path) -> Any:
    """What a JSON file of the user's holds.

    Raises:
        DataError: no such file, not UTF-8, not JSON.
    """
    try:
        return json.loads(_read(path))
    except ValueError as err:
        raise DataError(f"is not JSON: {err}", field="table", value=str(path)) from None


def finder(words: Iterable[str], folded: bool = False) -> regex.Pattern:
    """A pattern that finds the words whole, the longest first, in any case (or, five times as fast, in a text that is
    case-folded). A word of a script that puts no spaces between words is found anywhere: name the longer words that it must
    not be found in (`其他` for `他`) as well.
    """
    whole = rf"(?<!{_LETTER}(?={_LETTER}))\L<words>(?!(?<={_LETTER}){_LETTER})"
    listed = [word.casefold() for word in words]
    if not listed:
        return regex.compile(r"(?!)")
    return regex.compile(whole, regex.V1 if folded else regex.V1 | regex.IGNORECASE, words=listed)


def like(word: str, model: str) -> str:
    """A word in the case of another: `she` as `He` is `She`, as `HE` is `SHE`."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _row(row: Any) -> list[Any]:
    """One row of any kind of table, flat."""
    if isinstance(row, tuple):  # of a mapping
        row = [row[0], *row[1]] if isinstance(row[1], list) else list(row)
    return row if isinstance(row, list) and row else [None]


def _read_tsv(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in _read(path).splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("no such file", field="table", value=str(path)) from None
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"cannot be read as UTF-8 text: {err}", field="table", value=str(path)) from None
