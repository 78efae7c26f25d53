"""Functions that replies call: in the prompt, in the grammar, in the reply, whole and streamed."""

import dataclasses
import json

import pytest
import torch

from cutaway.decode.grammar import GrammarCompiler
from cutaway.decode.processors import History
from cutaway.models.llama import Llama
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig
from cutaway.serve.protocol import ChatRequest
from cutaway.serve.tool_calls import HERMES, LLAMA, Arguments, CallBegins, ReplyParser, Text
from cutaway.serve.tools import ToolUse

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(parameters: dict, name: str = "f") -> dict:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool(CITY, "weather"), tool({"type": "object", "properties": {}, "additionalProperties": False}, "now")]
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "How is it in Rome?"}], "tools": TOOLS}


@pytest.fixture(scope="module")
def server(loaded, serving):
    torch.manual_seed(1)
    roomy = Llama(loaded.model.config.model_copy(update={"max_position_embeddings": 2048})).eval()
    with serving(create_app(ServeConfig(), dataclasses.replace(loaded, model=roomy))) as running:
        yield running


def read(form, text: str, size: int) -> tuple[str, list[tuple[str, str]]]:
    """The text and the calls of a reply that comes in parts of this size."""
    parser, pieces = ReplyParser(form, {"f", "g"}), []
    for start in range(0, len(text), size):
        pieces += parser.push(text[start : start + size])
    pieces += parser.flush()
    names = [piece.name for piece in pieces if isinstance(piece, CallBegins)]
    arguments = [""] * len(names)
    for piece in pieces:
        if isinstance(piece, Arguments):
            arguments[piece.index] += piece.text
    assert parser.called == bool(names)
    return "".join(piece.text for piece in pieces if isinstance(piece, Text)), list(zip(names, arguments, strict=True))


ONE = '<tool_call>\n{"name": "f", "arguments": {"a": "}\\"{", "b": [{}]}}\n</tool_call>'
UNKNOWN = '<tool_call>{"name": "h", "arguments": {}}</tool_call>'
F = ("f", '{"a": "}\\"{", "b": [{}]}')


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (HERMES, "Hello, <tool> you", ("Hello, <tool> you", [])),
        (HERMES, ONE, ("", [F])),
        (HERMES, f"Let me see.\n\n{ONE}\n{ONE}\n", ("Let me see.", [F, F])),
        (HERMES, '<tool_call>{"arguments": {"x": 1}, "name": "g"}</tool_call>!', ("!", [("g", '{"x": 1}')])),
        (HERMES, UNKNOWN, (UNKNOWN, [])),
        (HERMES, "<tool_call>nonsense</tool_call> more", ("<tool_call>nonsense</tool_call> more", [])),
        (HERMES, '<tool_call>{"name": "f"', ('<tool_call>{"name": "f"', [])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "cut', ("", [("f", '{"a": "cut')])),
        (HERMES, "white space \n", ("white space \n", [])),
        (LLAMA, ' {"name": "f", "parameters": {"a": 1}} ', ("", [("f", '{"a": 1}')])),
        (LLAMA, 'It is {"name": "f", "parameters": {}}', ('It is {"name": "f", "parameters": {}}', [])),
        (LLAMA, '{"answer": 5}', ('{"answer": 5}', [])),
        (None, ONE, (ONE, [])),
    ],
)  # fmt: skip
def test_calls_are_read_the_same_in_parts_of_any_size(form, text, expected):
    for size in (1, 2, 7, len(text)):
        assert read(form, text, size) == expected, size


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_valid(client, choice):
    settings = {"temperature": 1.3, "seed": 2, "n": 2, "tool_choice": choice, "parallel_tool_calls": False}
    whole = client.chat.completions.create(**ASK, **settings)
    for one in whole.choices:
        [call] = one.message.tool_calls
        assert one.finish_reason == "tool_calls"
        assert one.message.content is None
        assert call.function.name in (["weather"] if isinstance(choice, dict) else ["weather", "now"])
        arguments = json.loads(call.function.arguments)
        assert arguments == {} if call.function.name == "now" else arguments["city"] in ("Rome", "Oslo")
    calls: dict = {0: {}, 1: {}}
    for chunk in client.chat.completions.create(**ASK, **settings, stream=True):
        for one in chunk.choices:
            for delta in one.delta.tool_calls or []:
                call = calls[one.index].setdefault(delta.index, ["", ""])
                call[0] += delta.function.name or ""
                call[1] += delta.function.arguments or ""
            if one.finish_reason:
                assert one.finish_reason == "tool_calls"
    assert {index: list(found.values()) for index, found in calls.items()} == {
        one.index: [[call.function.name, call.function.arguments] for call in one.message.tool_calls]
        for one in whole.choices
    }


def test_several_calls(client):
    settings = {"temperature": 1, "tool_choice": "required", "max_tokens": 400}
    counts = set()
    for seed in range(4):
        [choice] = client.chat.completions.create(**ASK, **settings, seed=seed).choices
        assert choice.finish_reason == "tool_calls"
        assert all(json.loads(call.function.arguments) is not None for call in choice.message.tool_calls)
        counts.add(len(choice.message.tool_calls))
    assert max(counts) > 1


def test_strict_functions_are_called_by_their_schemas_if_at_all(loaded):
    strict = [{**one, "function": {**one["function"], "strict": True}} for one in TOOLS]
    constraint = ToolUse(ChatRequest(model="m", messages=CALLED, tools=strict), "").constraint()
    assert ToolUse(ChatRequest(model="m", messages=CALLED, tools=TOOLS), "").constraint() is None
    mask = GrammarCompiler(loaded.tokenizer).compile(constraint).start()

    def allowed(text: str) -> set[str]:
        found = mask(torch.zeros(loaded.tokenizer.vocab_size), History([], loaded.tokenizer.encode(text)))
        return {loaded.tokenizer.token_text(id) for id in found.isfinite().nonzero().flatten().tolist()}

    assert {"a", "<", "\n", "<|im_end|>"} <= allowed("")
    assert {"a", "<", "\n", "<|im_end|>"} <= allowed("Hi <tool")
    assert allowed("Hi <tool_call>") == {"\n"}
    call = '<tool_call>\n{"name": "'
    assert allowed(f"Hi {call}") == {"w", "n"}
    assert allowed(f'Hi {call}weather", "arguments": {{"city": "') == {"R", "O"}
    ended = f'Hi {call}now", "arguments": {{}}}}\n</tool_call>'
    assert {"a", "<", "<|im_end|>"} <= allowed(ended)
    assert allowed(f"{ended} and <tool_call>") == {"\n"}


def test_auto_and_none(client):
    for choice in ("auto", "none"):
        reply = client.chat.completions.create(**ASK, tool_choice=choice, max_tokens=5, temperature=0)
        assert reply.choices[0].message.tool_calls is None
        assert reply.choices[0].finish_reason == "length"
    without = client.chat.completions.create(**{**ASK, "tools": []}, max_tokens=1).usage.prompt_tokens
    none = client.chat.completions.create(**ASK, tool_choice="none", max_tokens=1).usage.prompt_tokens
    auto = client.chat.completions.create(**ASK, max_tokens=1).usage.prompt_tokens
    assert without == none < auto


BAD = {"properties": {"a": {"type": "x"}}}
CALLED = [
    {"role": "user", "content": "How is it?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]


def test_a_conversation_with_calls_goes_on(client):
    reply = client.chat.completions.create(model="tiny", messages=CALLED, tools=TOOLS, max_tokens=3, temperature=0)
    assert reply.usage.completion_tokens == 3


def test_how_it_is_put_to_templates():
    body = ChatRequest(model="m", messages=CALLED, tools=TOOLS)
    plain = ToolUse(body, "{{ messages }}")
    system, user, call, result = plain.messages(body.messages)
    assert plain.offered() is None
    assert system["role"] == "system"
    assert '"name": "weather"' in system["content"]
    assert user == CALLED[0]
    assert call["content"] == '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert result == {"role": "user", "content": "<tool_response>\nsunny\n</tool_response>"}
    knowing = ToolUse(body, "{% if tools %}<tool_call>{% endif %}")
    assert [one["function"]["name"] for one in knowing.offered()] == ["weather", "now"]
    assert knowing.messages(body.messages)[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
    assert ToolUse(body, '{% if tools %}{"parameters": }{% endif %}').form is LLAMA


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": TOOLS + TOOLS}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice.function.name"),
        ({"tools": [tool({"type": "string"})]}, "tools.0.function.parameters"),
        ({"tool_choice": "required", "tools": [*TOOLS, tool(BAD)]}, "tools.2.function.parameters"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": CALLED[1]["tool_calls"]}]}, "messages.0.tool_calls"),
        ({"documents": True}, "tools"),
    ],
)  # fmt: skip
def test_what_is_refused(http, body, param):
    answer = http.post("/v1/chat/completions", json={**ASK, "max_tokens": 5, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
