"""The one chat renderer: messages become text, ids and a loss mask, for training and serving alike.

A template is Jinja from a model's files, run in a sandbox. What people write inside a message is never read as a special token: a
spelling of one is broken by a marker before the template runs, and mended when the text is encoded as plain text.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cutaway.core.errors import RequestError, TokenizerError
from cutaway.text.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_RENDERED = 4_000_000  # characters; a template that writes more has lost its way
_MARKER = "\ue0f0"  # from a private-use area; taken out of what people write


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model sees it.

    Args:
        text: with the template's special tokens written out.
        ids: token ids; a content that spells a special token is plain text in them.
        mask: per id, whether it belongs to a reply of the assistant, its end-of-turn token included.
    """

    text: str
    ids: list[int]
    mask: list[bool]


class ChatRenderer:
    """Renders with the tokeniser's own template, or ChatML where it has none.

    Raises:
        TokenizerError: the template does not compile, or asks for what the sandbox refuses.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None = None):
        self.tokenizer = tokenizer
        self._template = _compile(template or tokenizer.chat_template or CHATML)
        spellings = sorted(tokenizer.special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, spellings)) if spellings else r"(?!)")

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None, generation_prompt: bool = False
    ) -> Rendered:
        """Render a conversation.

        Args:
            messages: `{"role": …, "content": …}` each; roles are `ROLES`.
            tools: handed to the template as they are.
            generation_prompt: end with the opening of the assistant's next reply.

        Raises:
            RequestError: a message is not of that form, or the template refuses the conversation (field `messages`).
        """
        check_messages(messages)
        safe = [self._disarm(message) for message in messages]
        safe_tools = self._disarm(list(tools)) if tools else None
        text = self._apply(safe, safe_tools, generation_prompt)
        spans = self._reply_spans(text, safe, safe_tools)
        ids, offsets = self._encode(text, [start for start, _ in spans])
        mask = [any(start <= a and b <= end for start, end in spans) for a, b in offsets]
        bos = self.tokenizer.bos_id
        if (
            self.tokenizer.adds_bos and bos is not None and ids[:1] != [bos]
        ):  # a template that leaves it to the tokeniser
            ids, mask = [bos, *ids], [False, *mask]
        return Rendered(text.replace(_MARKER, ""), ids, mask)

    def _disarm(self, value: Any) -> Any:
        """Break every spelling of a special token in what people wrote."""
        if isinstance(value, str):
            clean = value.replace(_MARKER, "")
            return self._special.sub(lambda found: found[0][0] + _MARKER + found[0][1:], clean)
        if isinstance(value, Mapping):
            return {key: self._disarm(item) for key, item in value.items()}
        return [self._disarm(item) for item in value] if isinstance(value, list | tuple) else value

    def _apply(self, messages: list[Any], tools: list[Any] | None, generation_prompt: bool) -> str:
        tokens = {f"{role}_token": token or "" for role, token in self.tokenizer.tokens.items()}
        pieces, length = [], 0
        try:
            for piece in self._template.generate(
                messages=messages, tools=tools, documents=None, add_generation_prompt=generation_prompt, **tokens
            ):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_RENDERED:
                    raise TokenizerError("writes without end", field="chat template")
        except _Refused as err:
            raise RequestError(str(err), field="messages") from None
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as err:
            raise TokenizerError(f"cannot be rendered: {err}", field="chat template") from None
        return "".join(pieces)

    def _reply_spans(self, text: str, messages: list[Any], tools: list[Any] | None) -> list[tuple[int, int]]:
        """Where the assistant's replies stand in the text, end-of-turn tokens included.

        A reply starts where the conversation before it, rendered with a generation prompt, ends. Templates that rewrite
        earlier turns break that; there the reply's own words are looked for.
        """
        spans: list[tuple[int, int]] = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            try:
                opening, turn = self._apply(messages[:i], tools, True), self._apply(messages[: i + 1], tools, False)
            except (RequestError, TokenizerError):
                opening = turn = ""  # the template refuses part of a conversation
            if i and turn.startswith(opening) and text.startswith(turn):
                start, stop = len(opening), len(turn)
            else:
                content = str(message.get("content") or "").strip()
                start = text.find(content, spans[-1][1] if spans else 0)
                if start < 0 or not content:
                    raise TokenizerError("the template hides where a reply stands", field="chat template")
                stop = self._end_of_turn(text, start + len(content))
            ends = [found.end() for found in self._special.finditer(text, start, stop)]
            spans.append((start, ends[-1] if ends else stop))
        return spans

    def _end_of_turn(self, text: str, position: int) -> int:
        found = self._special.search(text, position)
        return found.end() if found and not text[position : found.start()].strip() else position

    def _encode(self, text: str, cuts: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and the characters of `text` that each stands for.

        A byte-level text is cut where a reply starts: what was the prompt then has the ids it had when it was served.
        """
        inner = sorted(cuts) if self.tokenizer.is_byte_level else []
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, stop in zip([0, *inner], [*inner, len(text)], strict=True):
            for part_ids, part_offsets in self._encode_run(text[start:stop], start):
                ids += part_ids
                offsets += part_offsets
        return ids, offsets

    def _encode_run(self, text: str, base: int) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        if _MARKER not in text:
            found = self.tokenizer.backend.encode(text, add_special_tokens=False)
            yield found.ids, [(base + a, base + b) for a, b in found.offsets]
            return
        position = 0
        for special in [*self._special.finditer(text), None]:
            plain = text[position : special.start() if special else len(text)]
            if plain:
                ids = self.tokenizer.encode(plain.replace(_MARKER, ""))
                # Marked text lies wholly inside one message; its place is all that the mask needs.
                yield ids, [(base + position, base + position + len(plain))] * len(ids)
            if special:
                yield [self.tokenizer.special[special[0]]], [(base + special.start(), base + special.end())]
                position = special.end()


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is no conversation, naming the message and the field."""
    if not messages:
        raise RequestError("must hold at least one message", field="messages")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise RequestError("must be an object with role and content", field=f"messages.{i}")
        if message.get("role") not in ROLES:
            raise RequestError(
                "unknown role", field=f"messages.{i}.role", value=message.get("role"), hint="one of " + ", ".join(ROLES)
            )
        content = message.get("content")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise RequestError("must be text", field=f"messages.{i}.content", value=content)


class _Refused(Exception):  # noqa: N818 - the template's word for it
    """A template called raise_exception."""


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses to make huge values in one step."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(value) if isinstance(value, str | list | tuple) else abs(value) for value in (left, right)]
        limit = MAX_RENDERED if operator == "*" else 64
        if operator == "**" or not all(isinstance(value, int | float) for value in (left, right)):
            product = sizes[1] if operator == "**" else sizes[0] * sizes[1]
            if product > limit:
                raise OverflowError(f"{operator} makes too large a value")
        return super().call_binop(context, operator, left, right)


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """The names that Hugging Face's templates may use, and no others."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _compile(template: str) -> jinja2.Template:
    try:
        return _environment().from_string(template)
    except jinja2.TemplateError as err:
        raise TokenizerError(f"does not compile: {err}", field="chat template") from None
