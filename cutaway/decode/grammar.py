"""Constrained decoding: only tokens that a grammar allows next can be drawn.

A grammar is a JSON schema, a regular expression, a list of choices, or rules in Lark's notation. `llguidance` compiles it and
says which tokens may follow (it refuses what it cannot enforce). Compiling and each step are bounded in size and time.
V vocabulary.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import RequestError, ResourceError
from cutaway.decode.processors import History

_MAX_DEPTH = 64  # of a schema
_KEPT = 32  # compiled grammars
# With these, the slowest step of any hostile grammar that we tried took 54 ms (49,152 tokens, one core); ordinary ones take 0.1.
_LIMITS = {
    "initial_lexer_fuel": 500_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 100_000,
    "precompute_large_lexemes": False,
    "verbose_errors": False,
}
# As `json.dumps` writes it, spaces optional: a model that likes white space could go on with it for ever.
_JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "lenient": False,
    "coerce_one_of": True,
}


class Constraint(Config):
    """What a reply must be."""

    kind: Literal["json_schema", "regex", "choice", "lark"] = Field(description="how `source` is to be read")
    source: str = Field(
        description="a schema or a list of texts in JSON, a regular expression, or rules that define `start`"
    )


class Vocabulary(Protocol):
    """What is asked of a tokeniser (`text.tokenizer.Tokenizer`)."""

    special: dict[str, int]
    end_ids: frozenset[int]

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def bos_id(self) -> int | None: ...
    def has(self, id: int) -> bool: ...
    def token_bytes(self, id: int) -> bytes: ...
    def encode(self, text: str) -> list[int]: ...


class GrammarMask:
    """A processor of logits that follows one reply: what the grammar does not allow becomes -inf."""

    def __init__(self, matcher: Any):
        self._matcher, self._read = matcher, list[int]()

    def __call__(self, logits_V: Tensor, history: History) -> Tensor:
        """Logits of what may follow.

        Raises:
            RequestError: the text so far does not follow the grammar, or the grammar is too complex from here on.
        """
        self._follow(history.generated)
        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise _refusal(self._matcher)
        forbidden = np.ones(len(logits_V), dtype=bool)
        known = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")[: len(forbidden)]
        forbidden[: len(known)] = known == 0
        return logits_V.masked_fill(torch.from_numpy(forbidden).to(logits_V.device), -math.inf)

    def _follow(self, ids: Sequence[int]) -> None:
        if list(ids[: len(self._read)]) != self._read:
            self._matcher.reset()
            self._read = []
        new = list(ids[len(self._read) :])
        if new and not self._matcher.consume_tokens(new):
            raise _refusal(self._matcher)
        self._read += new


class Grammar:
    """A compiled constraint."""

    def __init__(self, constraint: Constraint, matcher: Any):
        self.constraint, self._matcher = constraint, matcher

    def start(self) -> GrammarMask:
        """A processor for one reply."""
        return GrammarMask(self._matcher.deep_copy())


class GrammarCompiler:
    """Compiles constraints for a vocabulary; slow ones take a second, so not on a thread that others wait for.

    Args:
        max_source: characters of a constraint.
    """

    def __init__(self, vocabulary: Vocabulary, max_source: int = 65_536):
        self.vocabulary, self.max_source = vocabulary, max_source
        self._compile = lru_cache(_KEPT)(self._compile_new)

    def compile(self, constraint: Constraint, field: str = "grammar") -> Grammar:
        """A grammar whose first step is known to work.

        Args:
            field: what the user calls it.

        Raises:
            RequestError: it is no grammar, cannot be enforced, or is too large or complex; names the field.
            ResourceError: llguidance is not installed.
        """
        try:
            return self._compile(constraint)
        except RequestError as err:
            raise RequestError(err.message, field=field, hint=err.hint) from None

    def _compile_new(self, constraint: Constraint) -> Grammar:
        if len(constraint.source) > self.max_source:
            raise RequestError("is too long", hint=f"at most {self.max_source} characters")
        llguidance = _library()
        try:
            matcher = llguidance.LLMatcher(
                self._tokens, _notation(constraint), log_level=0, limits=llguidance.LLParserLimits(**_LIMITS)
            )
        except ValueError as err:
            raise RequestError(_first_line(str(err))) from None
        first = matcher if matcher.is_error() else matcher.deep_copy()
        first.compute_bitmask()  # some that cannot work fail only here
        if first.is_error():
            raise _refusal(first)
        return Grammar(constraint, matcher)

    @cached_property
    def _tokens(self) -> Any:
        return _library().LLTokenizer(
            _Tokens(self.vocabulary),
            n_vocab=self.vocabulary.vocab_size,
            eos_token=sorted(self.vocabulary.end_ids),
        )


class _Tokens:
    """A vocabulary in the form that the library reads."""

    is_tokenizer_wrapper = True

    def __init__(self, vocabulary: Vocabulary):
        self._encode = vocabulary.encode
        self.eos_token_id = vocabulary.eos_id if vocabulary.eos_id is not None else min(vocabulary.end_ids)
        self.bos_token_id = vocabulary.bos_id
        ids = range(vocabulary.vocab_size)
        self.tokens = [vocabulary.token_bytes(id) if vocabulary.has(id) else b"" for id in ids]
        self.special_token_ids = sorted(vocabulary.special.values())

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def json_rule(schema: Any) -> str:
    """A schema as part of rules in Lark's notation: `%json {…}`.

    Raises:
        RequestError: it is nested too deeply.
    """
    return f"%json {json.dumps(_with_options(schema))}"


def _notation(constraint: Constraint) -> str:
    """The grammar as the library reads it."""
    matcher, source = _library().LLMatcher, constraint.source
    if constraint.kind == "json_schema":
        return matcher.grammar_from_json_schema(json.dumps(_with_options(json.loads(source))))
    if constraint.kind == "choice":
        texts = json.loads(source)
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise RequestError("must be a list of texts")
        return matcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, texts)))
    return matcher.grammar_from_regex(source) if constraint.kind == "regex" else matcher.grammar_from_lark(source)


def _with_options(schema: Any) -> dict[str, Any]:
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise RequestError("must be a JSON schema: an object")
    layer: list[Any] = [schema]
    for _ in range(_MAX_DEPTH):
        layer = [inner for one in layer for inner in _inside(one)]
        if not layer:
            return {**schema, "x-guidance": _JSON_OPTIONS}
    raise RequestError("is nested too deeply", hint=f"at most {_MAX_DEPTH} levels")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise ResourceError("constrained decoding needs llguidance", hint="pip install cutaway[serve]") from None
    return llguidance


def _refusal(matcher: Any) -> RequestError:
    return RequestError(f"the grammar cannot be followed: {_first_line(matcher.get_error()) or 'no token fits'}")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
