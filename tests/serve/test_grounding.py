"""Answers from documents: the packaged sentence encoder, a small index, the tiny model with room for passages."""

import dataclasses

import openai
import pytest
import torch

from cutaway.models.llama import Llama
from cutaway.retrieve import answer
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.index import Index
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

QUESTION = "What does temperature do to the distribution?"


@pytest.fixture(scope="module")
def server(loaded, serving, minilm, tmp_path_factory):
    documents = tmp_path_factory.mktemp("documents")
    (documents / "sampling.md").write_text(
        "# Temperature\n\nTemperature divides the logits. A high temperature makes the distribution flatter.\n"
    )
    index = Index.open(tmp_path_factory.mktemp("index") / "index", Embedder(str(minilm)))
    index.update(documents)
    torch.manual_seed(1)
    roomy = Llama(loaded.model.config.model_copy(update={"max_position_embeddings": 1024})).eval()
    with serving(create_app(ServeConfig(), dataclasses.replace(loaded, model=roomy), index)) as running:
        yield running


def ask(client: openai.OpenAI, question: str, **settings):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="tiny", messages=messages, extra_body={"documents": True}, **settings)


def test_the_reply_brings_passages_that_exist(client, http):
    reply = ask(client, QUESTION, max_tokens=12)
    told = reply.model_extra["cutaway"]
    assert told["answered"] is True
    assert told["passages"][0]["number"] == 1
    assert told["passages"][0]["source"] == "sampling.md"
    found = http.get(f"/v1/passages/{told['passages'][0]['id']}").json()
    assert found["text"] == told["passages"][0]["text"]
    assert "Temperature divides the logits" in found["text"]
    numbers = {passage["number"] for passage in told["passages"]}
    assert all(set(sentence["passages"]) <= numbers for sentence in told["sentences"])


def test_streamed_equals_whole(client):
    whole = ask(client, QUESTION, max_tokens=12)
    chunks = list(ask(client, QUESTION, max_tokens=12, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    streamed, told = chunks[-1].model_extra["cutaway"], whole.model_extra["cutaway"]
    assert streamed["passages"] == told["passages"]
    assert streamed["sentences"] == told["sentences"]


def test_stop_strings_are_the_clients_and_our_own(client, monkeypatch):
    monkeypatch.setattr(answer, "STOP", ("makes",))
    for stop, said in (([], "A high temperature "), (["temp"], "A high ")):
        assert ask(client, "What makes a flatter distribution?", stop=stop).choices[0].message.content == said


def test_what_the_documents_do_not_hold_is_told(client):
    reply = ask(client, "Who won the football world cup in 1998?")
    assert reply.choices[0].finish_reason == "stop"
    assert "do not answer" in reply.choices[0].message.content
    told = reply.model_extra["cutaway"]
    assert (told["answered"], told["grounded"], told["citations"]) == (False, False, [])
    assert reply.usage.completion_tokens == 0


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"max_tokens": 10_000}, "max_tokens"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ],
)
def test_settings_are_checked_where_the_model_is_not_asked(client, settings, field):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Who won the football world cup in 1998?", **settings)
    assert caught.value.param == field


def test_a_conversation_must_end_with_a_question(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "assistant", "content": "x"}], extra_body={"documents": True}
        )
    assert caught.value.param == "messages"


def test_embeddings(client, minilm):
    texts = ["a small text", "另一段文字"]
    name = client.models.list().data[1].id
    floats = client.embeddings.create(model=name, input=texts, encoding_format="float")
    packed = client.embeddings.create(model=name, input=texts)  # the client asks for base64
    for one, other in zip(floats.data, packed.data, strict=True):
        torch.testing.assert_close(torch.tensor(one.embedding), torch.tensor(other.embedding))
        assert torch.tensor(one.embedding).norm() == pytest.approx(1, abs=1e-5)
    assert floats.usage.prompt_tokens > 0
    assert client.embeddings.create(model=name, input="long " * 1000).usage.prompt_tokens == 256
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=name, input=[])


def test_where_says_which_passages_count(http):
    def told(where):
        body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 60}
        return http.post("/v1/chat/completions", json={**body, "documents": {"where": where}})

    assert told({"source": "samp"}).json()["cutaway"]["passages"][0]["source"] == "sampling.md"
    assert told({"heading": "Temp"}).json()["cutaway"]["answered"] is True
    nothing = told({"source": "else"}).json()["cutaway"]
    assert (nothing["answered"], nothing["passages"]) == (False, [])
    wrong = told({"author": "me"})
    assert wrong.status_code == 400
    assert "where" in wrong.text
