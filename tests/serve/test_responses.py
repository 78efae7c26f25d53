"""The Responses API, ranking and tokens: the official client where it has a call, else plain HTTP."""

import dataclasses
import json

import pytest
import torch

from cutaway.models.llama import Llama
from cutaway.retrieve.embed import Embedder
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

ASK = {"model": "tiny", "input": "Hello, what do you know?"}
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def server(loaded, serving, minilm):
    torch.manual_seed(1)
    roomy = Llama(loaded.model.config.model_copy(update={"max_position_embeddings": 2048})).eval()
    app = create_app(ServeConfig(), dataclasses.replace(loaded, model=roomy), embedder=Embedder(str(minilm)))
    with serving(app) as running:
        yield running


def test_a_response_is_the_reply_of_chat(client):
    made = client.responses.create(**ASK, instructions="Be brief.", max_output_tokens=12, temperature=0)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK["input"]}]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=12, temperature=0)
    assert made.output_text == chat.choices[0].message.content
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert made.usage.input_tokens == chat.usage.prompt_tokens
    assert made.usage.output_tokens == 12
    assert made.instructions == "Be brief."


def test_messages_in_and_out_again(client):
    first = client.responses.create(**ASK, max_output_tokens=4, temperature=0)
    conversation = [{"role": "user", "content": [{"type": "input_text", "text": ASK["input"]}]}]
    conversation += [item.model_dump(exclude_none=True) for item in first.output]
    conversation += [{"role": "user", "content": "And?"}]
    made = client.responses.create(model="tiny", input=conversation, max_output_tokens=4, temperature=0)
    messages = [
        {"role": "user", "content": ASK["input"]},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And?"},
    ]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, temperature=0)
    assert made.output_text == chat.choices[0].message.content


def test_events(client):
    whole = client.responses.create(**ASK, max_output_tokens=12, temperature=0)
    events = list(client.responses.create(**ASK, max_output_tokens=12, temperature=0, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == 12
    assert events[2].item.content == []
    with client.responses.stream(**ASK, max_output_tokens=5, temperature=0) as stream:
        assert [event.type for event in stream][-1] == "response.incomplete"


def test_calls(client):
    ask = {**ASK, "tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}, "temperature": 0}
    made = client.responses.create(**ask)
    [call] = made.output
    assert (call.type, call.name, made.status) == ("function_call", "weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")
    events = list(client.responses.create(**ask, stream=True))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert events[-1].response.output[0].arguments == call.arguments
    conversation = [
        {"role": "user", "content": ASK["input"]},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    again = client.responses.create(model="tiny", input=conversation, tools=[TOOL], max_output_tokens=3, temperature=0)
    assert again.usage.output_tokens == 3


def test_text_by_a_schema(client):
    form = {"type": "json_schema", "name": "flag", "schema": {"enum": [True, False]}}
    made = client.responses.create(**ASK, text={"format": form})
    assert made.output_text in ("true", "false")
    assert made.status == "completed"
    assert made.text.format.name == "flag"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0.call_id"),
        ({"input": "x" * 5000}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 10_000}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "y"}}}}, "text.format.schema"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]}, "tools.0.parameters"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "none"}}, "tool_choice.name"),
    ],
)  # fmt: skip
def test_what_is_refused(http, body, param):
    answer = http.post("/v1/responses", json={**ASK, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_rerank(http, client):
    documents = ["Bread is baked.", {"text": "Temperature divides the logits."}, "Rome is in Italy."]
    [_, encoder] = client.models.list().data
    body = {"model": encoder.id, "query": "What does temperature do to logits?", "documents": documents}
    told = http.post("/v1/rerank", json=body).json()
    assert told["results"][0]["index"] == 1
    assert told["results"][0]["document"] == {"text": "Temperature divides the logits."}
    scores = [one["relevance_score"] for one in told["results"]]
    assert scores == sorted(scores, reverse=True)
    texts = [body["query"], "Temperature divides the logits."]
    a, b = (torch.tensor(one.embedding) for one in client.embeddings.create(model=encoder.id, input=texts).data)
    assert scores[0] == pytest.approx(float(a @ b), abs=1e-5)
    assert told["usage"]["total_tokens"] > 0
    short = http.post("/v1/rerank", json={**body, "top_n": 1, "return_documents": False}).json()["results"]
    assert [set(one) for one in short] == [{"index", "relevance_score"}]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {"query": "", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "q", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "q", "documents": ["a", ""]}, "documents.1"),
        ("/v1/rerank", {"query": "q", "documents": ["a", {"title": "b"}]}, "documents.1"),
        ("/v1/rerank", {"query": "q", "documents": ["a"] * 300}, "documents"),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        ("/detokenize", {"tokens": [5, -1]}, "tokens.1"),
        ("/detokenize", {"tokens": [10**9]}, "tokens.0"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ],
)  # fmt: skip
def test_nonsense(http, path, body, param):
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_tokens_there_and_back(http, client):
    text = "Hé, <|im_end|> 你好"
    told = http.post("/tokenize", json={"model": "tiny", "prompt": text}).json()
    assert told["count"] == len(told["tokens"]) == len(text.encode())
    assert told["max_model_len"] == 2048
    assert http.post("/detokenize", json={"model": "tiny", "tokens": told["tokens"]}).json() == {"prompt": text}
    messages = [{"role": "user", "content": "Hello"}]
    for tools in ([], [{"type": "function", "function": {"name": "f"}}]):
        ids = http.post("/tokenize", json={"model": "tiny", "messages": messages, "tools": tools}).json()["tokens"]
        made = client.chat.completions.create(
            model="tiny", messages=messages, tools=tools, max_tokens=1, extra_body={"inspect": True}
        ).model_extra["cutaway"]
        assert ids == made["ids"][: made["prompt_length"]]
