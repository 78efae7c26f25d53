"""Replies that must be something: JSON by a schema, a regular expression, one of some texts, rules."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}]}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bo"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def as_format(schema) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}


def check_person(text: str) -> None:
    made = json.loads(text)
    assert set(made) == {"name", "age"}
    assert made["name"] in ("Ada", "Bo")
    assert 0 <= made["age"] <= 99


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.5, "top_p": 0.9, "frequency_penalty": 1}])
def test_json_by_a_schema(client, settings):
    ask = {**ASK, **settings, "seed": 3, "n": 3, "response_format": as_format(SCHEMA), "logprobs": True}
    whole = client.chat.completions.create(**ask)
    for choice in whole.choices:
        check_person(choice.message.content)
        assert choice.finish_reason == "stop"
    texts = dict.fromkeys(range(3), "")
    for chunk in client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {choice.index: choice.message.content for choice in whole.choices}


def test_the_client_parses_what_it_asked_for(client):
    from pydantic import BaseModel, ConfigDict

    class Flag(BaseModel):
        model_config = ConfigDict(extra="forbid")
        on: bool

    reply = client.chat.completions.parse(**ASK, response_format=Flag)
    assert isinstance(reply.choices[0].message.parsed.on, bool)


def test_any_object(client):
    text = client.chat.completions.create(
        **ASK, temperature=0, max_tokens=20, response_format={"type": "json_object"}
    ).choices[0]
    assert text.message.content.startswith("{")
    assert client.chat.completions.create(**ASK, max_tokens=2, response_format={"type": "text"}).choices


@pytest.mark.parametrize(
    ("field", "value", "pattern"),
    [
        ("guided_regex", "[ab]{3}!", "[ab]{3}!"),
        ("guided_choice", ["left", "right"], "left|right"),
        ("guided_grammar", 'start: "x" /[0-9]{2}/', "x[0-9]{2}"),
        ("guided_json", {"const": 5}, "5"),
    ],
)
def test_guided(client, field, value, pattern):
    chat = client.chat.completions.create(**ASK, extra_body={field: value}).choices[0]
    text = client.completions.create(model="tiny", prompt="a", max_tokens=30, extra_body={field: value}).choices[0]
    assert re.fullmatch(pattern, chat.message.content)
    assert re.fullmatch(pattern, text.text)
    assert (chat.finish_reason, text.finish_reason) == ("stop", "stop")


def test_inspection_shows_what_the_grammar_left(client):
    reply = client.chat.completions.create(
        **ASK, temperature=0.5, seed=1, extra_body={"inspect": True, "guided_choice": ["left", "right"]}
    )
    kept = reply.model_extra["cutaway"]
    body = {name: kept[name] for name in ("ids", "prompt_length", "sampling", "grammar")}
    report = client.post("/inspect", body={**body, "position": kept["prompt_length"]}, cast_to=object)
    assert [stage["name"] for stage in report["stages"]] == ["model", "grammar", "temperature"]
    assert report["stages"][1]["kept"] == 2
    assert {one["text"] for one in report["stages"][1]["alternatives"]} == {"l", "r"}
    second = client.post("/inspect", body={**body, "position": kept["prompt_length"] + 1}, cast_to=object)
    assert second["stages"][1]["kept"] == 1


NESTED: dict = {"type": "null"}
for _ in range(200):
    NESTED = {"type": "array", "items": NESTED}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format.json_schema.name"),
        ({"response_format": as_format({"type": "strin"})}, "response_format.json_schema.schema"),
        ({"response_format": as_format({"not": {}})}, "response_format.json_schema.schema"),
        ({"response_format": as_format([])}, "response_format.json_schema.schema"),
        ({"response_format": as_format(NESTED)}, "response_format.json_schema.schema"),
        ({"response_format": as_format({"enum": ["x" * 40_000, "y" * 30_000]})}, "response_format.json_schema.schema"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_grammar": "nonsense"}, "guided_grammar"),
        ({"guided_json": {"$ref": "#/nowhere"}}, "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
    ],
)  # fmt: skip
def test_what_is_refused(http, body, param):
    answer = http.post(CHAT, json={**ASK, "max_tokens": 5, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_hostile_schemas_change_nothing_for_others(client):
    """Many at once, beside an ordinary reply, which comes out as it does alone."""
    hostile = [
        {"properties": {f"k{n}": {"type": "integer"} for n in range(1500)}, "required": ["none"]},
        {"type": "string", "pattern": "(.*a.{1,400}b)+c"},
        {"allOf": [{"type": "string", "pattern": f".*{c}.{{1,40}}"} for c in "abcdefgh"]},
        {"$defs": {"e": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/e"}}] * 50}}, "$ref": "#/$defs/e"},
    ]

    def plain() -> str:
        reply = client.chat.completions.create(**ASK, temperature=0.8, seed=4, max_tokens=40)
        return reply.choices[0].message.content

    def attack(schema) -> str:
        try:
            reply = client.chat.completions.create(**ASK, max_tokens=15, response_format=as_format(schema), timeout=60)
            return reply.choices[0].finish_reason
        except openai.BadRequestError as err:
            return str(err.status_code)
        except openai.RateLimitError:
            return "429"

    alone, started = plain(), time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        attacks, others = pool.map(attack, hostile), [pool.submit(plain) for _ in range(3)]
        assert {other.result() for other in others} == {alone}
        assert set(attacks) <= {"length", "stop", "400", "429"}
    assert time.monotonic() - started < 120, "bounded, on a machine however slow"


def test_constrained_and_other_requests_are_the_same_alone_and_in_a_crowd(client):
    ask = {**ASK, "seed": 7, "temperature": 0.9, "max_tokens": 30}
    kinds = [
        {"n": 3},
        {"response_format": as_format(SCHEMA), "n": 2},
        {"extra_body": {"guided_regex": "[a-z]{3,9}(-[0-9]+){1,3}"}},
        {"logit_bias": {"70": 5}, "stop": ["x"], "top_p": 0.8},
    ]

    def texts(kind: dict) -> list[str]:
        return [choice.message.content for choice in client.chat.completions.create(**ask, **kind).choices]

    alone = [texts(kind) for kind in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        assert list(pool.map(texts, kinds)) == alone
