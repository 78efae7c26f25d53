"""The official client against the real server."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hello, what do you know?"}]}
GREEDY = {"temperature": 0, "max_tokens": 24}


def text_of(reply) -> str:
    return reply.choices[0].message.content


def test_models(client):
    [model] = client.models.list().data
    assert (model.id, model.kind, model.documents, model.parts) == ("tiny", "chat", False, False)
    assert client.models.retrieve("tiny").context == 160
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_chat(client):
    reply = client.chat.completions.create(**ASK, **GREEDY)
    assert reply.object == "chat.completion"
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.role == "assistant"
    assert reply.usage.completion_tokens == 24
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 24
    assert reply.model_extra["cutaway"]["seconds"] >= 0


def test_streamed_chat_equals_whole(client):
    whole = client.chat.completions.create(**ASK, **GREEDY, logprobs=True, top_logprobs=3)
    stream = client.chat.completions.create(
        **ASK, **GREEDY, logprobs=True, top_logprobs=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in deltas) == text_of(whole)
    assert deltas[-1].finish_reason == "length"
    assert [one for choice in deltas if choice.logprobs for one in choice.logprobs.content] == (
        whole.choices[0].logprobs.content
    )
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_logprobs_are_of_the_model_and_sorted(client):
    reply = client.chat.completions.create(**ASK, **GREEDY, logprobs=True, top_logprobs=5, logit_bias={"7": -100})
    content = reply.choices[0].logprobs.content
    assert len(content) == 24
    for one in content:
        logprobs = [other.logprob for other in one.top_logprobs]
        assert len(logprobs) == 5
        assert logprobs == sorted(logprobs, reverse=True)
        assert one.logprob <= logprobs[0] + 1e-6
        assert bytes(one.bytes).decode("utf-8", "replace") == one.token


def test_stop_string_is_not_part_of_the_reply(client):
    whole = text_of(client.chat.completions.create(**ASK, **GREEDY))
    stop = whole[5:8]
    reply = client.chat.completions.create(**ASK, **GREEDY, stop=[stop])
    assert text_of(reply) == whole[: whole.index(stop)]
    assert reply.choices[0].finish_reason == "stop"


def test_seed_is_reproducible_and_choices_differ(client):
    def drawn(seed: int) -> list[str]:
        reply = client.chat.completions.create(**ASK, max_tokens=16, temperature=1.5, seed=seed, n=3)
        return [choice.message.content for choice in sorted(reply.choices, key=lambda choice: choice.index)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert len(set(drawn(7))) == 3


def test_streamed_choices_equal_whole_ones(client):
    ask = {**ASK, "max_tokens": 12, "temperature": 1.2, "seed": 5, "n": 4, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    texts, tokens, reasons = {i: "" for i in range(4)}, {i: [] for i in range(4)}, {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
        reasons |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert tokens == {choice.index: choice.logprobs.content for choice in whole.choices}
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_known_prompt_is_counted(client):
    ask = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "A prompt of several blocks, as it is."}],
        **GREEDY,
    }
    first = client.chat.completions.create(**ask, n=2, extra_body={"cache_salt": "mine"}).usage
    again = client.chat.completions.create(**ask, n=2, extra_body={"cache_salt": "mine"}).usage
    other = client.chat.completions.create(**ask, n=2, extra_body={"cache_salt": "yours"}).usage
    assert [one.prompt_tokens_details.cached_tokens for one in (first, again, other)] == [
        0,
        (first.prompt_tokens - 1) // 16 * 16,
        0,
    ]
    assert again.total_tokens == first.total_tokens


def test_an_offset_is_a_place_in_the_text(client):
    text = "a\u00e9\u4f60 b"
    found = client.completions.create(
        model="tiny", prompt=text, max_tokens=4, temperature=0, logprobs=0, echo=True
    ).choices[0]
    places = [place for place, char in enumerate(text) for _ in char.encode()]
    assert found.logprobs.text_offset[: len(places)] == places
    assert found.logprobs.text_offset[len(places)] == len(text)


def test_completion(client):
    reply = client.completions.create(model="tiny", prompt="Once upon", max_tokens=8, temperature=0, logprobs=2)
    [choice] = reply.choices
    assert choice.finish_reason == "length"
    assert len(choice.logprobs.tokens) == 8
    assert all(len(top) <= 2 and math.isfinite(p) for top in choice.logprobs.top_logprobs for p in top.values())
    assert choice.logprobs.text_offset[0] == 0
    ids = list(b"Once upon")
    echoed = client.completions.create(model="tiny", prompt="Once upon", max_tokens=8, temperature=0, echo=True)
    assert echoed.choices[0].text == "Once upon" + choice.text
    assert reply.usage.prompt_tokens == len(ids)


def test_streamed_completion_equals_whole(client):
    ask = {"model": "tiny", "prompt": ["One", "Two"], "max_tokens": 12, "temperature": 0, "echo": True}
    whole = client.completions.create(**ask)
    texts = {choice.index: choice.text for choice in whole.choices}
    streamed = dict.fromkeys(texts, "")
    for chunk in client.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


@pytest.mark.parametrize("stream", [False, True])
def test_echo_tells_how_likely_the_prompt_was(client, loaded, stream):
    """As an evaluation harness asks: ids, one token more, and the alternatives to see whether a choice is the likeliest."""
    prompts = [list(b"The cat sat. \xe6\xb8"), [256, *b"No"], [7]]
    ask = {"model": "tiny", "prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 2, "echo": True}
    if stream:
        choices = [choice for chunk in client.completions.create(**ask, stream=True) for choice in chunk.choices]
    else:
        choices = client.completions.create(**ask).choices
    assert sorted(choice.index for choice in choices) == [0, 1, 2]
    for choice in choices:
        ids, found = prompts[choice.index], choice.logprobs
        assert choice.text.startswith(loaded.tokenizer.decode(ids, skip_special=False))
        assert [len(part) for part in (found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset)] == (
            [len(ids) + 1] * 4
        )
        with torch.no_grad():
            logits_TV = loaded.model.logits(loaded.model(torch.tensor([ids])))[0].float()
        log_TV = logits_TV.log_softmax(-1)
        assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
        for at, id in enumerate(ids[1:]):
            assert found.tokens[at + 1] == loaded.tokenizer.token_text(id)
            assert found.token_logprobs[at + 1] == pytest.approx(log_TV[at, id].item(), abs=1e-5)
            assert max(found.top_logprobs[at + 1].values()) == pytest.approx(log_TV[at].max().item(), abs=1e-5)
        assert found.token_logprobs[-1] == pytest.approx(log_TV[-1].max().item(), abs=1e-4), "the new token's"


def test_an_echo_continues_where_the_prompt_ends(client):
    ask = {"model": "tiny", "temperature": 0, "logprobs": 1, "echo": True}
    first = client.completions.create(**ask, prompt="Once", max_tokens=6).choices[0].logprobs
    ids = client.post("/tokenize", body={"text": "Once"}, cast_to=object)["ids"]
    again = client.completions.create(**ask, prompt=ids, max_tokens=1).choices[0].logprobs
    assert again.tokens == first.tokens[:5]
    assert again.token_logprobs[1:] == pytest.approx(first.token_logprobs[1:5], abs=1e-5)
    assert first.text_offset[:5] == [0, 1, 2, 3, 4]


def test_a_prompt_of_ids_is_that_prompt(client):
    ids = client.post("/tokenize", body={"text": "One, two"}, cast_to=object)["ids"]
    asked = {"model": "tiny", "max_tokens": 8, "temperature": 0}
    by_text = client.completions.create(**asked, prompt="One, two")
    by_ids = client.completions.create(**asked, prompt=ids)
    assert by_ids.choices[0].text == by_text.choices[0].text


def test_requests_at_once_equal_requests_alone(client):
    questions = [f"{word} {n}" for n, word in enumerate(["a", "longer question", "你好", "??", "x" * 40, "six", "7"])]

    def ask(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        return text_of(client.chat.completions.create(model="tiny", messages=messages, seed=3, max_tokens=20))

    alone = [ask(question) for question in questions]
    with ThreadPoolExecutor(len(questions)) as pool:
        assert list(pool.map(ask, questions)) == alone


def test_content_in_parts_and_what_clients_send_besides(client):
    parts = [{"type": "text", "text": "Hello, what "}, {"type": "text", "text": "do you know?"}]
    reply = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": parts}], **GREEDY, user="me", tools=[], tool_choice="auto"
    )
    assert text_of(reply) == text_of(client.chat.completions.create(**ASK, **GREEDY))


def test_inspect_opens_the_tokens_of_a_reply(client):
    settings = {"temperature": 0.7, "seed": 1, "max_tokens": 6}
    reply = client.chat.completions.create(
        **ASK, **settings, logprobs=True, extra_body={"inspect": True, "top_k": 20, "documents": False}
    )
    kept = reply.model_extra["cutaway"]
    assert kept["sampling"] == {"temperature": 0.7, "top_k": 20, "seed": 1}
    first = reply.choices[0].logprobs.content[0]
    report = client.post(
        "/inspect",
        body={
            "ids": kept["ids"],
            "position": kept["prompt_length"],
            "prompt_length": kept["prompt_length"],
            "sampling": kept["sampling"],
        },
        cast_to=object,
    )
    assert report["token"]["text"] == first.token
    assert math.log(report["probability"]) == pytest.approx(first.logprob, abs=1e-4)
    assert [stage["name"] for stage in report["stages"]] == ["model", "temperature", "top_k"]
    assert len(report["attention"]) == 2
    json.dumps(report, allow_nan=False)


def test_nothing_to_inspect_unless_asked(client):
    assert "ids" not in client.chat.completions.create(**ASK, max_tokens=1).model_extra["cutaway"]
