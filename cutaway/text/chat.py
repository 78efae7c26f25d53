"""The one chat renderer: messages become text, ids and a loss mask, for training and serving alike.

A template is Jinja from a model's files, run in a sandbox (`sandbox.py`). What people write inside a message is never read as
a special token: a spelling of one is broken by a mark before the template runs, and mended when the text is encoded as plain
text.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.core.errors import RequestError, TokenizerError
from cutaway.text.sandbox import BREAK, MAX_SECONDS, REPLY_BEGINS, REPLY_ENDS, ChatTemplate
from cutaway.text.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROLES = ("system", "developer", "user", "assistant", "tool")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKS = re.compile(f"[{BREAK}{REPLY_BEGINS}{REPLY_ENDS}]")  # taken out of what people write


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model sees it.

    Args:
        text: with the template's special tokens written out.
        ids: token ids; a content that spells a special token is plain text in them.
        mask: per id, whether it belongs to a reply of the assistant: what a template puts between `{% generation %}` and
            `{% endgeneration %}`; from other templates, the reply with its end-of-turn token.
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
        self._template = ChatTemplate(template or tokenizer.chat_template or CHATML)
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
            TokenizerError: the template fails, or does not end.
        """
        check_messages(messages)
        given = _Given(
            [self._disarm(message) for message in messages],
            self._disarm(list(tools)) if tools else None,
            time.thread_time() + MAX_SECONDS,
        )
        text = self._apply(given, len(messages), generation_prompt)
        text, spans = _marked(text) if self._template.marks_replies else (text, self._reply_spans(text, given))
        ids, offsets = self._encode(text, [start for start, _ in spans])
        mask = [any(a < end and start < b for start, end in spans) for a, b in offsets]
        bos = self.tokenizer.bos_id
        if (
            self.tokenizer.adds_bos and bos is not None and ids[:1] != [bos]
        ):  # a template that leaves it to the tokeniser
            ids, mask = [bos, *ids], [False, *mask]
        return Rendered(text.replace(BREAK, ""), ids, mask)

    def _disarm(self, value: Any) -> Any:
        """Break every spelling of a special token in what people wrote."""
        if isinstance(value, str):
            clean = _MARKS.sub("", value)
            return self._special.sub(lambda found: found[0][0] + BREAK + found[0][1:], clean)
        if isinstance(value, Mapping):
            return {key: self._disarm(item) for key, item in value.items()}
        return [self._disarm(item) for item in value] if isinstance(value, list | tuple) else value

    def _apply(self, given: "_Given", count: int, generation_prompt: bool) -> str:
        """The text of the first `count` messages."""
        variables = {f"{role}_token": token or "" for role, token in self.tokenizer.tokens.items()} | {
            "messages": given.messages[:count],
            "tools": given.tools,
            "documents": None,
            "add_generation_prompt": generation_prompt,
        }
        return self._template.render(variables, given.deadline)

    def _reply_spans(self, text: str, given: "_Given") -> list[tuple[int, int]]:
        """Where the assistant's replies stand in the text, end-of-turn tokens included.

        A reply starts where the conversation before it, rendered with a generation prompt, ends. Templates that rewrite
        earlier turns break that; there the reply's own words are looked for.
        """
        spans: list[tuple[int, int]] = []
        for i, message in enumerate(given.messages):
            if message["role"] != "assistant":
                continue
            try:
                opening, turn = self._apply(given, i, True), self._apply(given, i + 1, False)
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
        if BREAK not in text:
            found = self.tokenizer.encoding(text, special=True)
            yield found.ids, [(base + a, base + b) for a, b in found.offsets]
            return
        position = 0
        for special in [*self._special.finditer(text), None]:
            plain = text[position : special.start() if special else len(text)]
            if plain:
                kept = [base + position + i for i, char in enumerate(plain) if char != BREAK]
                pieces = self.tokenizer.pieces(plain.replace(BREAK, ""))
                yield (
                    [piece.id for piece in pieces],
                    [(kept[p.start], kept[max(p.start, p.end - 1)] + 1) for p in pieces],
                )
            if special:
                yield [self.tokenizer.special[special[0]]], [(base + special.start(), base + special.end())]
                position = special.end()


@dataclass(frozen=True)
class _Given:
    """A conversation whose contents spell no special token, and until when (`time.thread_time()`) it may be rendered."""

    messages: list[Any]
    tools: list[Any] | None
    deadline: float


def _marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without a template's marks around replies, and where these stood."""
    plain, spans, start = "", [], 0
    for part in re.split(f"([{REPLY_BEGINS}{REPLY_ENDS}])", text):
        if part == REPLY_BEGINS:
            start = len(plain)
        elif part == REPLY_ENDS:
            spans.append((start, len(plain)))
        else:
            plain += part
    return plain, spans


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is no conversation.

    Raises:
        RequestError: names the message and the field (`messages.2.role`).
    """
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
        if content and _SURROGATE.search(content):
            raise RequestError(
                "holds a lone surrogate, which stands for no character", field=f"messages.{i}.content", value=content
            )
