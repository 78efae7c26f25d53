"""Calls of functions in the text of a reply: how they are written, and how they are read while it comes.

Whole and streamed replies go through the same parser, so that they say the same.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from uuid import uuid4

from cutaway.decode.stop import overlap


@dataclass(frozen=True)
class Form:
    """How a model writes a call: `opening {"name": …, key: {…}} closing`."""

    opening: str
    closing: str
    key: str


HERMES = Form("<tool_call>", "</tool_call>", "arguments")
LLAMA = Form("", "", "parameters")  # the whole reply is one call


@dataclass(frozen=True)
class Text:
    """Text beside calls."""

    text: str


@dataclass(frozen=True)
class CallBegins:
    """A call: which of the reply's, and whom it calls."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of a call's arguments, in JSON."""

    index: int
    text: str


Piece = Text | CallBegins | Arguments


class ReplyParser:
    """Splits a reply into text and calls.

    A call of an unknown function, or one that is no JSON, is text.

    Args:
        form: how calls are written; None: there are none.
        names: the functions.
    """

    def __init__(self, form: Form | None = None, names: Collection[str] = ()):
        self._form, self._names = form, names
        self._held, self._calls, self._state = "", 0, "text"
        self._depth, self._in_text, self._escaped = 0, False, False
        if form:
            self._header = re.compile(rf'\s*\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{form.key}"\s*:\s*(?=\{{)')

    @property
    def called(self) -> bool:
        """Whether there was a call."""
        return self._calls > 0

    def push(self, text: str) -> list[Piece]:
        """Add text; what it brought."""
        if not self._form:
            return [Text(text)] if text else []
        self._held += text
        pieces: list[Piece] = []
        while self._form:
            state, held = self._state, self._held
            pieces += {"text": self._text, "call": self._call, "arguments": self._arguments, "end": self._end}[state](
                self._form
            )
            if (state, held) == (self._state, self._held):
                break
        return pieces

    def flush(self) -> list[Piece]:
        """What waited, when no more text comes."""
        held, self._held = self._held, ""
        if self._form and self._state == "call":
            return self._whole_call(held, self._form.opening + held)
        return [Text(held)] if self._state == "text" and (held.strip() or (held and not self.called)) else []

    def _text(self, form: Form) -> list[Piece]:
        if not form.opening:
            return self._first_text()
        before, found, after = self._held.partition(form.opening)
        if found:
            self._held, self._state = after, "call"
            return [Text(before.rstrip())] if before.strip() else []
        keep = overlap(self._held, form.opening)
        certain = self._held[: len(self._held) - keep].rstrip()  # white space before a call is not part of the text
        self._held = self._held[len(certain) :]
        return [Text(certain)] if certain else []

    def _first_text(self) -> list[Piece]:
        """A call without a mark can only be what the reply begins with."""
        start = self._held.lstrip()
        if start.startswith("{"):
            self._held, self._state = start, "call"
        elif start:
            text, self._held, self._form = self._held, "", None
            return [Text(text)]
        return []

    def _call(self, form: Form) -> list[Piece]:
        header = self._header.match(self._held)
        name = _text_of(header[1]) if header else None
        if header and name in self._names:
            self._held, self._state = self._held[header.end() :], "arguments"
            self._depth, self._in_text, self._escaped = 0, False, False
            return [self._begin(str(name))]
        inside, closed, after = self._held.partition(form.closing) if form.closing else (self._held, "", "")
        if not closed:
            return []
        self._held, self._state = after, "text"
        return self._whole_call(inside, form.opening + inside + closed)

    def _arguments(self, form: Form) -> list[Piece]:
        end = self._end_of_object()
        text, self._held = self._held[:end], self._held[end:]
        return [Arguments(self._calls - 1, text)] if text else []

    def _end(self, form: Form) -> list[Piece]:
        _, found, after = self._held.partition(form.closing) if form.closing else ("", "", "")
        if found:
            self._held, self._state = after, "text"
        return []

    def _begin(self, name: str) -> CallBegins:
        self._calls += 1
        return CallBegins(self._calls - 1, f"call_{uuid4().hex}", name)

    def _whole_call(self, call: str, as_text: str) -> list[Piece]:
        try:
            read = json.loads(call)
            name, arguments = read["name"], read.get("arguments", read.get("parameters", {}))
            known = name in self._names
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            known = False
        if not known:
            return [Text(as_text)]
        begun = self._begin(name)
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return [begun, Arguments(begun.index, written)]

    def _end_of_object(self) -> int:
        """Where the arguments end in what is held; its length as long as they go on."""
        for place, char in enumerate(self._held):
            if self._escaped:
                self._escaped = False
            elif self._in_text:
                self._escaped, self._in_text = char == "\\", char != '"'
            elif char == '"':
                self._in_text = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if not self._depth:
                    self._state = "end"
                    return place + 1
        return len(self._held)


def _text_of(quoted: str) -> str | None:
    try:
        return json.loads(quoted)
    except ValueError:
        return None
