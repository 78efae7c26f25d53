"""`POST /v1/inspect/views`: each view as the library gives it, what is refused, and that the served model stays as it was."""

import base64
import io
import json
import threading

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from cutaway.data.parts import Part, Row
from cutaway.lens.inputs import read_parts
from cutaway.lens.views import VIEWS
from cutaway.models.families import make_model
from cutaway.models.load import Loaded
from cutaway.models.twin import twin_of
from cutaway.serve import views
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

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


@pytest.fixture(scope="module")
def omni(loaded, serving, tmp_path_factory):
    """A server of a model that sees and hears, and what its tokeniser's tokens are."""
    torch.manual_seed(0)
    media = dict(image_size=8, patch_size=4, num_channels=1, max_frames=2, sampling_rate=8000, mel_bands=6, n_fft=256)
    shape = dict(
        hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    model = make_model(
        {"model_type": "omni", "vocab_size": loaded.tokenizer.vocab_size, "media": media, **shape}
    ).eval()
    served = Loaded(model, loaded.tokenizer, "omni", tmp_path_factory.mktemp("omni"))
    with serving(create_app(ServeConfig(), served)) as running, running.http as http:
        yield served, http


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (9, 7), shade).save(file, "PNG")
    return file.getvalue()


def sound(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, numpy.zeros(int(8000 * seconds)), 8000, format="FLAC")
    return file.getvalue()


def test_parts_are_looked_at_as_from_files(omni, tmp_path):
    served, http = omni
    (tmp_path / "a.png").write_bytes(picture(90))
    (tmp_path / "a.flac").write_bytes(sound(0.2))
    files = [Part("image", files=(tmp_path / "a.png",)), Part("audio", files=(tmp_path / "a.flac",))]
    expected = VIEWS["attention"](served, read_parts(served, Row((*files, Part("text", "abc")), "here")))
    parts = [
        {"image": f"data:image/png;base64,{encoded(picture(90))}"},
        {"audio": encoded(sound(0.2))},
        {"text": "abc"},
    ]
    answer = http.post(ROUTE, json={"what": "attention", "parts": parts})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["data"]["tokens"] == expected.data["tokens"]
    assert found["data"]["tokens"][:5] == ["image 0", "image 1", "image 2", "image 3", "audio 0"]
    for row, same in zip(found["rows"], expected.rows, strict=True):
        assert row[2:] == pytest.approx(same[2:], rel=1e-3, abs=1e-6)
    assert http.get("/v1/models").json()["data"][0]["parts"] is True
    video = [{"video": [encoded(picture(1)), encoded(picture(200))]}]
    assert http.post(ROUTE, json={"what": "pca", "parts": video}).status_code == 200
    assert http.post(ROUTE, json={"what": "pca", "text": "abc"}).status_code == 200


LONG = "at most 5.12 s"  # 64 positions of 80 ms, at 4 frames of 160 samples


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"parts": [{"image": "%"}]}, "parts.image", "no base64"),
        ({"parts": [{"image": "aaaa"}]}, "parts.image", "does not decode"),
        ({"parts": [{"image": "/etc/hostname"}]}, "parts.image", "no base64"),
        ({"parts": [{"image": encoded(picture(1)), "text": "a"}]}, "parts", "one of text, image, audio and video"),
        ({"parts": [{}]}, "parts", "one of text, image, audio and video"),
        ({"parts": []}, "parts", "at least 1"),
        ({"parts": [{"video": [encoded(picture(1))] * 3}]}, "parts.video", "too many frames"),
        ({"parts": [{"audio": encoded(sound(600))}]}, "parts.audio", LONG),
        ({"parts": [{"text": "x" * 99}]}, "parts", "at most 64 tokens"),
        ({"parts": [{"text": "a"}], "text": "a"}, "parts", "does not go with text"),
        ({}, "text", "is required, or parts"),
    ],
)
def test_parts_that_cannot_be(omni, body, param, says):
    answer = omni[1].post(ROUTE, json={"what": "activations"} | body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["error"]["message"]


def test_a_model_of_texts_reads_no_parts(http):
    error = http.post(ROUTE, json={"what": "pca", "parts": [{"text": "a"}]}).json()["error"]
    assert error["param"] == "parts"
    assert "reads text" in error["message"]


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
