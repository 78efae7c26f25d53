"""What clients may send to `/v1/responses`, and the same as a request for chat: what it means is said once.

Stored and chained responses are not offered (`previous_response_id` is refused); `store` has no effect.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from cutaway.core.errors import RequestError
from cutaway.serve.protocol import Body, ChatRequest

# Chat's names of fields, where they begin so, and those of this API.
_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "tool_choice.function": "tool_choice",
}


class InputText(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    logprobs: list[Any] = Field([])  # of a part that came from here


class InputItem(Body):
    """A message, a call that was made, or what came of one."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    id: str | None = None
    status: str | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[InputText] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None

    def missing(self) -> str | None:
        """A field that such an item must have and this one lacks."""
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }[self.type]
        return next((name for name in needed if getattr(self, name) is None), None)


class FlatTool(Body):
    """A function that may be called."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field({})
    strict: bool = False


class FlatChoice(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: str


class Format(Body):
    """What the text must be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = Field(None, pattern=r"^[\w-]{1,64}$")
    description: str = ""
    wanted: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool = True

    @model_validator(mode="after")
    def _whole(self) -> "Format":
        if self.type == "json_schema" and (self.name is None or self.wanted is None):
            raise RequestError("is required", field="text.format." + ("schema" if self.name else "name"))
        return self


class TextSettings(Body):
    """Settings of the text."""

    format: Format = Format()


class ResponsesRequest(Body):
    """The body of `POST /v1/responses`."""

    model: str
    input: str | list[InputItem]
    instructions: str = ""
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    text: TextSettings = TextSettings()
    tools: list[FlatTool] = Field([], max_length=128)
    tool_choice: Literal["none", "auto", "required"] | FlatChoice = "auto"
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def _items_are_whole(self) -> "ResponsesRequest":
        if not self.input:
            raise RequestError("is empty", field="input")
        for number, item in enumerate(self.input if isinstance(self.input, list) else ()):
            if missing := item.missing():
                raise RequestError("is required", field=f"input.{number}.{missing}")
        return self

    def chat(self) -> ChatRequest:
        """The request for chat that means the same."""
        made: dict[str, Any] = {"model": self.model, "messages": self._messages(), "max_tokens": self.max_output_tokens}
        made |= {name: getattr(self, name) for name in ("temperature", "top_p", "seed", "parallel_tool_calls")}
        made["tools"] = [{"type": "function", "function": tool.model_dump(exclude={"type"})} for tool in self.tools]
        choice = self.tool_choice
        named = {"type": "function", "function": {"name": choice.name}} if isinstance(choice, FlatChoice) else None
        made["tool_choice"] = named or choice
        form = self.text.format
        if form.type == "json_schema":
            schema = {"name": form.name, "schema": form.wanted}
            made["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form.type == "json_object":
            made["response_format"] = {"type": "json_object"}
        return ChatRequest.model_validate(made)

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for item in self.input:
            message = _message(item)
            if item.type == "function_call" and messages and messages[-1]["role"] == "assistant":  # calls of one reply
                messages[-1].setdefault("tool_calls", []).extend(message["tool_calls"])
            else:
                messages.append(message)
        return messages


def _message(item: InputItem) -> dict[str, Any]:
    if item.type == "function_call":
        call = {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if item.type == "function_call_output":
        return {"role": "tool", "content": item.output, "tool_call_id": item.call_id}
    content = item.content if isinstance(item.content, str) else "".join(part.text for part in item.content or ())
    return {"role": item.role, "content": content}


def renamed(field: str | None) -> str | None:
    """A field of chat by its name in this API."""
    for old, new in _NAMES.items():
        if field and (field == old or field.startswith(old + ".")):
            return new + field.removeprefix(old)
    return field.replace(".function.", ".") if field else field
