"""The shapes that training records come in, and the two that they become: a document, or a conversation.

"…", {"text": …}                                       document
{"instruction": …, "input": …, "output": …}             Alpaca
{"conversations": [{"from": …, "value": …}, …]}         ShareGPT
{"messages": [{"role": …, "content": …}, …]}            OpenAI; content is text, or a list of {"type": "text", "text": …}
{"prompt": …, "completion" | "response": …}             prompt and reply
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core.errors import DataError
from cutaway.data.read import Record, read_records

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_call": "assistant",
}
_KNOWN = "text; instruction+output; conversations; messages; prompt+completion"


@dataclass(frozen=True)
class Document:
    """A text of which every token is learned."""

    text: str
    where: str


@dataclass(frozen=True)
class Conversation:
    """Messages of which the assistant's are learned."""

    messages: list[dict[str, Any]]
    where: str


class Texts:
    """What the records of files say, whatever their shape: documents, and the messages of conversations, one below another.

    Every pass reads the files anew, so that nothing is kept in memory.

    Raises:
        DataError: while reading, as `read_records` and `shape` do.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], encoding: str = "utf-8"):
        self._paths, self._encoding = paths, encoding

    def __iter__(self) -> Iterator[str]:
        for record in read_records(self._paths, self._encoding):
            one = shape(record)
            yield one.text if isinstance(one, Document) else "\n".join(message["content"] for message in one.messages)


def shape(record: Record) -> Document | Conversation:
    """Recognise a record.

    Raises:
        DataError: no known shape, or a field of the wrong type; it says where, and which keys it saw.
    """
    value, where = record.value, record.where
    if isinstance(value, str):
        return Document(value, where)
    if not isinstance(value, Mapping):
        raise DataError(f"a record must be text or an object, not {type(value).__name__}", field=where)
    if "messages" in value:
        return Conversation(
            [_message(item, where, "role", "content") for item in _list(value["messages"], where)], where
        )
    if "conversations" in value:
        turns = [_message(item, where, "from", "value") for item in _list(value["conversations"], where)]
        system = [{"role": "system", "content": _text(value["system"], where, "system")}] if value.get("system") else []
        return Conversation(system + turns, where)
    if "instruction" in value and "output" in value:
        question = _text(value["instruction"], where, "instruction")
        if value.get("input"):
            question += "\n\n" + _text(value["input"], where, "input")
        return _pair(question, _text(value["output"], where, "output"), where, value.get("system"))
    for reply in ("completion", "response"):
        if "prompt" in value and reply in value:
            return _pair(_text(value["prompt"], where, "prompt"), _text(value[reply], where, reply), where)
    if "text" in value:
        return Document(_text(value["text"], where, "text"), where)
    raise DataError(f"no known shape: the keys are {sorted(map(str, value))}", field=where, hint=f"known: {_KNOWN}")


def _pair(question: str, reply: str, where: str, system: Any = None) -> Conversation:
    first = [{"role": "system", "content": _text(system, where, "system")}] if system else []
    return Conversation([*first, {"role": "user", "content": question}, {"role": "assistant", "content": reply}], where)


def _message(item: Any, where: str, role_key: str, text_key: str) -> dict[str, Any]:
    if not isinstance(item, Mapping) or role_key not in item:
        raise DataError(f"a message needs {role_key} and {text_key}", field=where)
    role = str(item[role_key])
    if role_key == "from":
        if role not in _SHAREGPT_ROLES:
            raise DataError("unknown speaker", field=f"{where} from", value=role, hint=", ".join(_SHAREGPT_ROLES))
        role = _SHAREGPT_ROLES[role]
    content = item.get(text_key)
    if text_key == "content" and isinstance(content, list):
        content = "".join(_part(part, f"{where} content.{i}") for i, part in enumerate(content))
    return {"role": role, "content": _text(content, where, text_key)}


def _part(part: Any, where: str) -> str:
    """The text of one part of a message (OpenAI's content parts); parts are joined as the server joins them."""
    if not isinstance(part, Mapping):
        raise DataError('must be {"type": "text", "text": …}', field=where, value=part)
    if part.get("type") != "text":
        raise DataError("only text can be learned", field=f"{where}.type", value=part.get("type"), hint="text")
    return _text(part.get("text"), f"{where}.text")


def _text(value: Any, where: str, key: str = "") -> str:
    if not isinstance(value, str):
        raise DataError("must be text", field=f"{where} {key}".rstrip(), value=value)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise DataError("must be a list with at least one message", field=where)
    return value
