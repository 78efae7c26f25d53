"""Constrained decoding: what is drawn follows the grammar, what cannot be enforced is refused, what is hostile is bounded."""

import json
import re

import pytest
import torch

from cutaway.core.errors import RequestError
from cutaway.decode.grammar import Constraint, GrammarCompiler
from cutaway.decode.processors import History, chain
from cutaway.decode.sampling import Sampling

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ada", 'Emmy "N"', "小明"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_chat):
    return tiny_chat(32).tokenizer


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return GrammarCompiler(tokenizer)


def write(tokenizer, grammar, seed: int, most: int = 200) -> str:
    """A text from random logits under the grammar."""
    generator, mask, ids = torch.Generator().manual_seed(seed), grammar.start(), []
    while len(ids) < most:
        logits_V = mask(torch.randn(tokenizer.vocab_size + 5, generator=generator), History([], ids))
        id = int(logits_V.softmax(-1).multinomial(1, generator=generator))
        if id in tokenizer.end_ids:
            return tokenizer.decode(ids)
        ids.append(id)
    raise AssertionError(f"it did not end: {tokenizer.decode(ids)}")


def test_what_is_written_fits_the_schema(tokenizer, compiler):
    grammar = compiler.compile(Constraint(kind="json_schema", source=json.dumps(SCHEMA)))
    for seed in range(20):
        made = json.loads(write(tokenizer, grammar, seed))
        assert set(made) == set(SCHEMA["properties"])
        assert made["name"] in SCHEMA["properties"]["name"]["enum"]
        assert 0 <= made["age"] <= 120
        assert len(made["tags"]) <= 2
        assert all(isinstance(tag, str) and len(tag) <= 3 for tag in made["tags"])


@pytest.mark.parametrize(
    ("kind", "source", "pattern"),
    [
        ("regex", r"[a-c]{2,4}-[0-9]+x", r"[a-c]{2,4}-[0-9]+x"),
        ("choice", '["yes", "no \\"maybe\\"", "也许"]', r'yes|no "maybe"|也许'),
        ("lark", 'start: "(" item ("," item)~0..2 ")"\nitem: /[xy]{1,2}/', r"\([xy]{1,2}(,[xy]{1,2}){0,2}\)"),
    ],
)
def test_what_is_written_fits_the_rules(tokenizer, compiler, kind, source, pattern):
    grammar = compiler.compile(Constraint(kind=kind, source=source))
    texts = {write(tokenizer, grammar, seed) for seed in range(20)}
    assert len(texts) > 1
    assert all(re.fullmatch(pattern, text) for text in texts), texts


def test_a_mask_is_a_function_of_the_text(tokenizer, compiler):
    """Started over, or gone back, it allows the same."""
    grammar = compiler.compile(Constraint(kind="regex", source="ab[cd]e"))
    mask, logits_V = grammar.start(), torch.zeros(tokenizer.vocab_size)
    allowed = {}
    for text in ("", "a", "ab", "abd", "a", "abc", ""):
        found = (mask(logits_V, History([], tokenizer.encode(text))) == 0).nonzero().flatten().tolist()
        assert allowed.setdefault(text, found) == found
    assert [tokenizer.token_text(id) for id in allowed["ab"]] == ["c", "d"]
    with pytest.raises(RequestError, match="cannot be followed"):
        mask(logits_V, History([], tokenizer.encode("b")))


def test_it_comes_before_bias_and_filters(tokenizer, compiler):
    grammar = compiler.compile(Constraint(kind="choice", source='["a", "b"]'))
    a, b, z = (tokenizer.encode(char)[0] for char in "abz")
    x, steps = torch.zeros(tokenizer.vocab_size), chain(Sampling(logit_bias={z: 100, b: 1}, top_k=1), grammar.start())
    assert [name for name, _ in steps] == ["grammar", "logit_bias", "top_k"]
    for _, step in steps:
        x = step(x, History([], []))
    assert x.isfinite().nonzero().flatten().tolist() == [b]
    assert a != b


def nested(depth: int) -> dict:
    schema: dict = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("json_schema", json.dumps({"type": "strin"})),
        ("json_schema", json.dumps({"not": {"const": 1}})),
        ("json_schema", json.dumps({"$ref": "#/$defs/none"})),
        ("json_schema", json.dumps({"$ref": "https://example.com/schema"})),
        ("json_schema", json.dumps([1])),
        ("json_schema", "false"),
        ("json_schema", json.dumps({"type": "string", "pattern": "("})),
        ("json_schema", json.dumps(nested(200))),
        ("json_schema", json.dumps({"enum": ["x" * 1000 + str(n) for n in range(100)]})),
        ("choice", "5"),
        ("choice", "[]"),
        ("choice", "nonsense"),
        ("json_schema", json.dumps({"allOf": [{"type": "string", "pattern": f".*{c}.{{1,40}}"} for c in "abcdefgh"]})),
        ("regex", "[a-"),
        ("regex", "a" * 70_000),
        ("lark", "start: other"),
        ("lark", "x" * 100),
        ("lark", r"start: X" "\n" r"X: /(.*a.{1,50})+/ & /(.*b.{1,60})+/ & /(.*c.{1,70})+/ & ~/.*d.{3,80}/"),
    ],
)  # fmt: skip
def test_what_cannot_be_enforced_is_refused(compiler, kind, source):
    with pytest.raises(RequestError) as caught:
        compiler.compile(Constraint(kind=kind, source=source), "here")
    assert caught.value.field == "here"
    assert caught.value.message


@pytest.mark.parametrize(
    "source", [r"(.*a){30}.*b", r"(.*a.{1,400}b)+c", r"(.*(a|b|c).{20}){5}", r"(a|aa|b)*.{1,500}x"]
)
def test_a_hostile_expression_ends_or_goes_on_but_never_hangs(tokenizer, compiler, source):
    grammar = compiler.compile(Constraint(kind="regex", source=source))
    mask, ids = grammar.start(), []
    for step in range(40):
        try:
            logits_V = mask(torch.zeros(tokenizer.vocab_size), History([], ids))
        except RequestError as err:
            assert re.search("too many|limit", err.message)  # noqa: PT017 - or it goes on
            return
        ids.append(int(logits_V.isfinite().nonzero()[step % 3]))
