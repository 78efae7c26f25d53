"""What is refused, with the status, the field and the shape that OpenAI's clients expect."""

import httpx
import openai
import pytest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
ONCE = {"model": "tiny", "prompt": "Once", "max_tokens": 2}


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": "Hello"}, "messages"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages.0.content"),
        (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        (CHAT, {"temperature": -1}, "temperature"),
        (CHAT, {"temperature": "hot"}, "temperature"),
        (CHAT, {"top_p": 0}, "top_p"),
        (CHAT, {"top_k": -3}, "top_k"),
        (CHAT, {"min_p": 2}, "min_p"),
        (CHAT, {"frequency_penalty": 1e9}, "frequency_penalty"),
        (CHAT, {"seed": -1}, "seed"),
        (CHAT, {"seed": 2**70}, "seed"),
        (CHAT, {"n": 0}, "n"),
        (CHAT, {"n": 9}, "n"),
        (CHAT, {"n": 2, "inspect": True}, "n"),
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (CHAT, {"max_tokens": True}, "max_tokens"),
        (CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (CHAT, {"max_tokens": 10_000}, "max_tokens"),
        (CHAT, {"max_completion_tokens": 3}, "max_tokens"),
        (CHAT, {"stop": [""]}, "stop"),
        (CHAT, {"stop": 5}, "stop"),
        (CHAT, {"logit_bias": {"999999": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"x": 1}}, "logit_bias.x"),
        (CHAT, {"logit_bias": {"5": 1000}}, "logit_bias.5"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format.type"),
        (CHAT, {"temprature": 1}, "temprature"),
        (CHAT, {"documents": True}, "documents"),
        (CHAT, {"documents": {"k": 0}}, "documents.k"),
        (CHAT, {"stream": "yes"}, "stream"),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 400}]}, "messages"),
        (TEXT, {"prompt": ""}, "prompt"),
        (TEXT, {"prompt": []}, "prompt"),
        (TEXT, {"prompt": [[]]}, "prompt"),
        (TEXT, {"prompt": [-1]}, "prompt"),
        (TEXT, {"prompt": [10**9]}, "prompt"),
        (TEXT, {"prompt": "x" * 400}, "prompt"),
        (TEXT, {"prompt": {"a": 1}}, "prompt"),
        (TEXT, {"suffix": "end"}, "suffix"),
        (TEXT, {"best_of": 3}, "best_of"),
        (TEXT, {"max_tokens": 0, "echo": True, "logprobs": 1}, "max_tokens"),
        ("/v1/inspect", {"ids": [1, 2, 3], "position": 9}, "position"),
        ("/v1/inspect", {"ids": [1, -2, 3], "position": 1}, "ids"),
        ("/v1/inspect", {"ids": [1, 2], "position": 1, "sampling": {"temperature": -1}}, "sampling.temperature"),
        ("/v1/inspect", {"ids": [1, 2], "position": 1, "prompt_length": 7}, "prompt_length"),
        ("/v1/tokenize", {"text": 5}, "text"),
        ("/v1/tokenize", {}, "text"),
    ],
)  # fmt: skip
def test_the_field_is_named(http, route, body, param):
    base = {CHAT: HELLO, TEXT: ONCE}.get(route, {})
    answer = http.post(route, json={**base, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert (error["param"], error["type"]) == (param, "invalid_request_error"), error
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"nul", b'"text"', b"\xff\xfe", b'{"model": "tiny", "messages": NaN}', b'{"n": 1e999}', b"[" * 50_000,
     b'{"\\ud800": 1}', b'{"model": "\\ud800"}', b'{"seed": ' + b"9" * 6000 + b"}", b'{"a": "\\u0000"}'],
)  # fmt: skip
def test_what_is_no_request(http, content):
    answer = http.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_values_that_json_cannot_say(http):
    content = b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}'
    answer = http.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")
    content = b'{"ids": [1, 2], "position": 1, "sampling": {"temperature": NaN}}'
    answer = http.post("/v1/inspect", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_prompt_too_long_has_its_code(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt="x" * 400)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("route", [CHAT, TEXT, "/v1/embeddings"])
def test_unknown_model(http, route):
    body = {CHAT: HELLO, TEXT: ONCE}.get(route, {"input": "x"}) | {"model": "gpt-4"}
    answer = http.post(route, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_unknown_places_and_methods(http):
    for path in (
        "/v1/nothing",
        "/nothing.js",
        "/v1/passages/x",
        "/v1/labs/1",
        "/v1/labs/..%2f..%2fetc%2fpasswd",
        "/../pyproject.toml",
    ):
        assert http.get(path).status_code == 404, path
        assert http.get(path).json()["error"]["type"] == "not_found_error"
    assert http.get(CHAT).status_code == 405


def test_a_body_too_large(http):
    answer = http.post(TEXT, json={**ONCE, "prompt": "x" * 200_000})
    assert answer.status_code == 413
    chunked = http.post(TEXT, content=(b"x" * 10_000 for _ in range(20)), headers={"Content-Type": "application/json"})
    assert chunked.status_code == 413
    assert chunked.json()["error"]["message"]


def test_null_means_not_given(http):
    answer = http.post(
        CHAT, json={**HELLO, "temperature": None, "tools": None, "stop": None, "logit_bias": None, "n": None}
    )
    assert answer.status_code == 200


def test_a_failed_request_holds_nothing(http, server):
    before = server.app.state.service.worker.load
    with pytest.raises(httpx.InvalidURL):
        http.get("\x00")
    assert server.app.state.service.worker.load.running == before.running == 0
