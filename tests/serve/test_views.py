"""`POST /v1/inspect/views`: each view as the library gives it, what is refused, and that the served model stays as it was."""

import json
import threading

import pytest
import torch

from cutaway.lens.views import VIEWS
from cutaway.models.load import Loaded
from cutaway.serve import views
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig
from cutaway.serve.views import twin_of

ROUTE, TEXT = "/v1/inspect/views", "abc abd"


@pytest.mark.parametrize("what", sorted(set(VIEWS) - {"experts"}))
def test_each_view_is_that_of_the_library(http, loaded, what):
    answer = http.post(ROUTE, json={"what": what, "text": TEXT})
    assert answer.status_code == 200, answer.text
    found, expected = answer.json(), VIEWS[what](loaded, torch.tensor([loaded.tokenizer.encode(TEXT)]))
    assert found["columns"] == list(expected.columns)
    assert len(found["rows"]) == len(expected.rows) > 0
    assert set(found["data"]) == set(json.loads(json.dumps(expected.data)))
    for row, same in zip(found["rows"], expected.rows, strict=True):
        for value, one in zip(row, same, strict=True):
            assert value == (pytest.approx(one, rel=1e-3, abs=1e-6) if isinstance(one, float) else one)


def test_a_view_leaves_the_served_model_and_its_replies_as_they_were(http, server):
    model = server.app.state.service.loaded.model
    ask = {"model": "tiny", "prompt": "abc", "max_tokens": 8, "temperature": 0}
    before, reply = {name: w.clone() for name, w in model.named_parameters()}, http.post("/v1/completions", json=ask)
    for what in ("gradients", "jacobian", "activations"):
        assert http.post(ROUTE, json={"what": what, "text": TEXT}).status_code == 200
    assert all(torch.equal(w, before[name]) and w.grad is None for name, w in model.named_parameters())
    assert not any(module._forward_hooks for module in model.modules())
    again = http.post("/v1/completions", json=ask)
    assert again.json()["choices"] == reply.json()["choices"]


def test_replies_go_on_while_a_view_is_computed_and_a_second_view_waits(http, monkeypatch):
    begun, end = threading.Event(), threading.Event()
    look = views._look

    def slow(*arguments):
        begun.set()
        assert end.wait(30)
        return look(*arguments)

    monkeypatch.setattr(views, "_look", slow)
    answers = []
    first = threading.Thread(target=lambda: answers.append(http.post(ROUTE, json={"what": "pca", "text": TEXT})))
    first.start()
    try:
        assert begun.wait(30)
        reply = http.post("/v1/completions", json={"model": "tiny", "prompt": "abc", "max_tokens": 4})
        second = http.post(ROUTE, json={"what": "pca", "text": TEXT})
    finally:
        end.set()
        first.join()
    assert (reply.status_code, second.status_code, answers[0].status_code) == (200, 429, 200)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"what": "gradient"}, "what", "gradients"),
        ({"what": 5}, "what", "string"),
        ({"text": "x" * 65}, "text", "at most 64 tokens"),
        ({"text": ""}, "text", "no token"),
        ({"text": None}, "text", "required"),
        ({"what": "experts"}, "model", "experts"),
        ({"more": 1}, "more", "unknown"),
    ],
)
def test_the_field_is_named(http, body, param, says):
    answer = http.post(ROUTE, json={"what": "activations", "text": TEXT} | body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert says in error["message"]


def test_the_key_is_wanted(loaded, serving):
    with serving(create_app(ServeConfig(api_key="sesame"), loaded)) as running, running.http as http:
        body = {"what": "pca", "text": TEXT}
        assert http.post(ROUTE, json=body).status_code == 401
        assert http.post(ROUTE, json=body, headers={"Authorization": "Bearer sesame"}).status_code == 200


def test_a_twin_shares_the_memory_but_not_the_modules(loaded: Loaded):
    model, twin = loaded.model, twin_of(loaded.model)
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert own is not other
        assert own.data_ptr() == other.data_ptr()
    assert not {id(module) for module in model.modules()} & {id(module) for module in twin.modules()}
