"""Functions that a reply may call: into the prompt, into the grammar of the reply, and out of its text.

A template that knows `tools` gets them as they are; for others they are described in the system message, and calls and
results become text. The template also decides how calls are written.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from cutaway.core.errors import RequestError
from cutaway.decode.grammar import Constraint, json_rule
from cutaway.serve.protocol import Message, NamedTool, Tool, ToolSettings
from cutaway.serve.tool_calls import HERMES, LLAMA, ReplyParser

_MOST_CALLS = 8  # that a reply must consist of, when calls are required


class ToolUse:
    """What a request wants with functions.

    Raises:
        RequestError: a choice that is not among the tools, or parameters that are no object.
    """

    def __init__(self, body: ToolSettings, template: str):
        self.template_knows = bool(re.search(r"\btools\b", template))
        tagged = HERMES.opening in template or not self.template_knows
        self.form = HERMES if tagged or '"parameters"' not in template else LLAMA
        self.tools: Sequence[Tool] = () if body.tool_choice == "none" else body.tools
        self.forced: list[Tool] = []
        names = [tool.function.name for tool in body.tools]
        if len(set(names)) < len(names):
            raise RequestError("two functions have one name", field="tools")
        for number, tool in enumerate(self.tools):
            if tool.function.parameters.get("type", "object") != "object":
                raise RequestError("must describe an object", field=f"tools.{number}.function.parameters")
        if isinstance(body.tool_choice, NamedTool):
            wanted = body.tool_choice.function.name
            self.forced = [tool for tool in self.tools if tool.function.name == wanted]
            if not self.forced:
                raise RequestError("is not among the tools", field="tool_choice.function.name", value=wanted)
        elif body.tool_choice == "required":
            if not self.tools:
                raise RequestError("needs tools", field="tool_choice", value="required")
            self.forced = list(self.tools)
        self._many = body.parallel_tool_calls and body.tool_choice == "required" and self.form is HERMES

    def parser(self) -> ReplyParser:
        """What reads one reply."""
        return ReplyParser(self.form if self.tools else None, {tool.function.name for tool in self.tools})

    def offered(self) -> list[dict[str, Any]] | None:
        """The tools as a template gets them."""
        return [_described(tool) for tool in self.tools] if self.tools and self.template_knows else None

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The conversation as the renderer takes it."""
        if self.template_knows:
            return [_for_template(message) for message in messages]
        plain = [self._as_text(message) for message in messages]
        if not self.tools:
            return plain
        system = plain.pop(0)["content"] if plain[0]["role"] == "system" else ""
        return [{"role": "system", "content": f"{system}\n\n{self._description()}".strip()}, *plain]

    def constraint(self) -> Constraint | None:
        """What the reply must be: when it has to call something, or where a strict function may be called."""
        if not self._constrained:
            return None
        newline = "\n" if self.form.opening else ""
        if self.forced:
            opening = f"{self.form.opening}{newline}"
            rules = [f'start: call ("\\n" call)~0..{_MOST_CALLS - 1}' if self._many else "start: call"]
        else:  # any text; after an opening, a call
            opening = newline
            rules = ["start: (opening call)* TEXT", "TEXT: /(.|\\n)*/"]
            rules.append(f"opening[lazy]: TEXT {json.dumps(self.form.opening)}")
        rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(self._constrained))))
        for number, tool in enumerate(self._constrained):
            head = f'{opening}{{"name": {json.dumps(tool.function.name)}, "{self.form.key}": '
            tail = f"}}{newline}{self.form.closing}"
            rules.append(f"call_{number}: {json.dumps(head)} arguments_{number} {json.dumps(tail)}")
            rules.append(f"arguments_{number}: {json_rule(_object(tool))}")
        return Constraint(kind="lark", source="\n".join(rules))

    def parts(self) -> list[tuple[str, Constraint]]:
        """The schema of each constrained function by the name of its field, to find the one that is refused."""
        return [
            (f"tools.{number}.function.parameters", Constraint(kind="json_schema", source=json.dumps(_object(tool))))
            for number, tool in enumerate(self.tools)
            if tool in self._constrained
        ]

    @property
    def _constrained(self) -> Sequence[Tool]:
        """The functions whose calls follow their schemas."""
        strict = self.form is HERMES and any(tool.function.strict for tool in self.tools)
        return self.forced or (self.tools if strict else ())

    def _description(self) -> str:
        lines = "\n".join(json.dumps(_described(tool), ensure_ascii=False) for tool in self.tools)
        example = self._call("name", {"parameter": "value"})
        return f"You can call these functions, described in JSON, one per line:\n{lines}\nWrite a call like this:\n{example}"

    def _call(self, name: str, arguments: Any) -> str:
        call = json.dumps({"name": name, self.form.key: arguments}, ensure_ascii=False)
        return f"{self.form.opening}\n{call}\n{self.form.closing}"

    def _as_text(self, message: Message) -> dict[str, Any]:
        if message.role == "tool":
            return {"role": "user", "content": f"<tool_response>\n{message.text}\n</tool_response>"}
        calls = [self._call(call.function.name, _arguments(call.function.arguments)) for call in message.tool_calls]
        return {"role": message.plain_role, "content": "\n".join([message.text, *calls] if message.text else calls)}


def _for_template(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.plain_role, "content": message.text}
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def _arguments(text: str) -> Any:
    """As templates want them: an object, where it is one."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


def _described(tool: Tool) -> dict[str, Any]:
    function = tool.function
    described = {"name": function.name, "description": function.description, "parameters": _object(tool)}
    return {"type": "function", "function": described}


def _object(tool: Tool) -> dict[str, Any]:
    return {"type": "object", "properties": {}, **tool.function.parameters}
