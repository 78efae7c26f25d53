"""What cleaning, de-duplication and audits look at: the texts of records, and their words."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import regex

from cutaway.core.errors import DataError
from cutaway.data.read import Record
from cutaway.data.shapes import Document, shape

Unit = Literal["record", "paragraph", "line"]

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"  # scripts that put no space between words
_WORD = regex.compile(rf"[{UNSPACED}]|[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]+(?:['’][\p{{L}}\p{{M}}]+)*", regex.V1)
_CHARACTER, _LETTER = regex.compile(rf"[{UNSPACED}]"), regex.compile(r"\p{L}")
_NUMBERED = regex.compile(r"(.+):\d+")
_ENDS = {"paragraph": regex.compile(r"(\n[^\S\n]*\n\s*)"), "line": regex.compile(r"(\n)")}  # ends are kept: lines count
_SHAPED = {"text", "messages", "conversations", "output", "completion", "response"}


def words(text: str) -> list[str]:
    """The words of a text: runs of letters, marks and digits. Chinese and Japanese put no spaces between words: there
    every character counts as one.

    >>> words("It's 2 cats, 两只猫。")
    ["It's", '2', 'cats', '两', '只', '猫']
    """
    return _WORD.findall(text)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end."""
    return [match.span() for match in _WORD.finditer(text)]


def unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts without spaces between words."""
    return 2 * len(_CHARACTER.findall(text)) > len(_LETTER.findall(text))


def units(records: Iterable[Record], by: Unit = "record") -> Iterator[Record]:
    """The records, where those that are bare text (a text file is one) are cut into paragraphs or lines if asked.

    A paragraph or line that is cut out of a file says in which line it began (`poems.txt:120`).
    """
    if by == "record":
        yield from records
        return
    following, line = "", 1
    for record in records:
        if not isinstance(record.value, str):
            yield record
            continue
        part = _NUMBERED.fullmatch(record.where)  # of a long file: where counts its last line, and more follows
        name = part[1] if part else record.where
        line = line if name == following else 1
        for text in _ENDS[by].split(record.value):
            if text.strip():
                yield Record(text, f"{name}:{line}")
            line += text.count("\n")
        following = name if part else ""


def kind_of(record: Record) -> Literal["document", "conversation", "other"]:
    """What training takes a record for; `other` is an object of no shape known to it.

    Raises:
        DataError: it has a known shape and breaks it.
    """
    if isinstance(record.value, Mapping) and not _SHAPED & record.value.keys():
        return "other"
    return "document" if isinstance(shape(record), Document) else "conversation"


def text_of(record: Record) -> str:
    """What a record says: a document's text, the messages of a conversation, one below another; of an object of no shape
    known to training (an evaluation item, a pair of replies), all the text in it.

    Raises:
        DataError: it has a known shape and breaks it, or holds no text at all.
    """
    if kind_of(record) == "other":
        found = list(strings(record.value))
        if not found:
            raise DataError("holds no text", field=record.where, hint=f"the keys are {sorted(map(str, record.value))}")
        return "\n".join(found)
    one = shape(record)
    return one.text if isinstance(one, Document) else "\n".join(message["content"] for message in one.messages)


def strings(value: Any) -> Iterator[str]:
    """Every string in a record, in order, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from strings(inner)
