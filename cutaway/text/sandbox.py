"""Chat templates come from strangers: Jinja with the names that Hugging Face's templates may use, in a sandbox with limits.

A template can neither reach Python's insides (Jinja's own sandbox), nor make a huge value in one step, nor write or run
without end. Between two looks at the clock it takes a few steps: turns of a loop, calls, pieces of text written.
"""

import functools
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_indent, sync_do_join
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from cutaway.core.errors import RequestError, TokenizerError

MAX_SIZE = 8_000_000  # characters that a template may write; characters, items or bits of a value that it may make
MAX_SECONDS = 5.0  # of CPU time, so that a busy machine refuses nothing; real templates take milliseconds
# Marks from a private-use area: inside a special token's spelling that is plain text; around `{% generation %}`.
BREAK, REPLY_BEGINS, REPLY_ENDS = "\ue0f0", "\ue0f1", "\ue0f2"

_GROWING_METHODS = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
_GROWING_FILTERS = ("batch", "center", "format", "pprint", "slice", "urlize", "wordwrap", "xmlattr")
_BUDGET, _TURNS, _JOINED, _WRITTEN = "budget left", "turns of", "joined as", "written as"  # no template can say a space

_ESCAPED = re.compile(f"[^\0-\x7f{BREAK}]+")
_FAILURES = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,  # of a filter
    MemoryError,
)


@dataclass
class _Budget:
    """What one rendering may still use: until when (`time.thread_time()`), and how many characters it may write."""

    deadline: float
    characters: int = MAX_SIZE
    steps: int = 0

    def spend(self, characters: int = 0) -> None:
        """Take one step; at every 16th, look at the clock."""
        self.steps += 1
        self.characters -= characters
        if self.characters < 0:
            raise TokenizerError("writes without end", field="chat template")
        if self.steps % 16 == 0 and time.thread_time() > self.deadline:
            raise TokenizerError("does not end", field="chat template")


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja. `{% generation %}…{% endgeneration %}` stands around what the model writes (Hugging Face's convention).

    Raises:
        TokenizerError: it does not compile.
    """

    def __init__(self, source: str):
        environment = _environment()
        try:
            tree = environment.parse(source)
            self.marks_replies = any(data.data == REPLY_BEGINS for data in tree.find_all(nodes.TemplateData))
            self._template = environment.from_string(_Watch().visit(tree))
        except (jinja2.TemplateError, SyntaxError, RecursionError, MemoryError) as err:
            raise TokenizerError(f"does not compile: {err}", field="chat template") from None

    def render(self, variables: Mapping[str, Any], deadline: float) -> str:
        """Run the template.

        Args:
            variables: what it may name.
            deadline: when it must have ended, by `time.thread_time()`.

        Raises:
            RequestError: it refuses the conversation (`raise_exception`; field `messages`).
            TokenizerError: it fails, asks for what the sandbox refuses, or does not end.
        """
        try:
            return self._template.render({**variables, _BUDGET: _Budget(deadline)})
        except _Refused as err:
            raise RequestError(str(err), field="messages") from None
        except _FAILURES as err:
            raise TokenizerError(f"cannot be rendered: {err}", field="chat template") from None


class _Refused(Exception):  # noqa: N818 - the template's word for it
    """A template called raise_exception."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also looks at the clock and at the size of what is made."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _budget(context).spend()
        text = getattr(function, "__self__", None)
        if isinstance(text, str) and args:
            if function.__name__ == "replace" and len(args) > 1:
                _check_size(text.count(args[0]), len(args[1]))
            elif function.__name__ == "join" and hasattr(args[0], "__len__"):
                _check_size(len(text), len(args[0]))
        return super().call(context, function, *args, **kwargs)

    def call_filter(
        self, name: str, value: Any, args: Any = None, kwargs: Any = None, context: Any = None, eval_ctx: Any = None
    ) -> Any:
        _budget(context).spend()
        return super().call_filter(name, value, args, kwargs, context, eval_ctx)

    def call_test(
        self, name: str, value: Any, args: Any = None, kwargs: Any = None, context: Any = None, eval_ctx: Any = None
    ) -> Any:
        _budget(context).spend()
        return super().call_test(name, value, args, kwargs, context, eval_ctx)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        a, b = _size(left), _size(right)
        if operator == "%" and isinstance(left, str):
            raise TypeError("% formats no text here; join it with ~")
        if operator == "+" or (operator == "*" and isinstance(left, int) and isinstance(right, int)):
            _check_size(a + b)
        elif operator == "*":  # a text or list, repeated
            _check_size(*(size if hasattr(value, "__len__") else value for size, value in ((a, left), (b, right))))
        elif operator == "**":
            _check_size(a, abs(right) if isinstance(left, int) else 1)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        grows = isinstance(obj, str) and attr in _GROWING_METHODS
        return not grows and super().is_safe_attribute(obj, attr, value)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what the model writes is put between two marks."""

    tags = {"generation"}  # noqa: RUF012 - Jinja reads it from the class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.TemplateData(mark)]) for mark in (REPLY_BEGINS, REPLY_ENDS))
        return nodes.Scope([begin, *body, end]).set_lineno(line)


class _Watch(NodeTransformer):
    """Puts a look at the budget where a template loops, joins texts and writes."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's names
        self.generic_visit(node)
        node.iter = _through(_TURNS, node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _through(_JOINED, nodes.List(node.nodes))

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_through(_WRITTEN, nodes.List(node.nodes))]
        return node


def _through(function: str, value: Any) -> nodes.Filter:
    return nodes.Filter(value, function, [], [], None, None)


def _budget(context: Context) -> _Budget:
    return context.parent[_BUDGET]


@jinja2.pass_context
def _turns(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _budget(context).spend()
        yield item


@jinja2.pass_context
def _joined(context: Context, values: list[Any]) -> str:
    text = "".join(map(str, values))
    _budget(context).spend()
    _check_size(len(text))
    return text


@jinja2.pass_context
def _written(context: Context, values: list[Any]) -> str:
    text = "".join(map(str, values))
    _budget(context).spend(len(text))
    return text


def _replaced(text: Any, old: Any, new: Any, count: int = -1) -> str:
    _check_size(str(text).count(str(old)), len(str(new)))
    return str(text).replace(str(old), str(new), count)


@jinja2.pass_eval_context
def _join(context: nodes.EvalContext, values: Iterable[Any], separator: str = "", attribute: Any = None) -> str:
    values = list(values)
    _check_size(len(values), len(str(separator)))
    return sync_do_join(context, values, separator, attribute)


def _indented(text: Any, width: int = 4, first: bool = False, blank: bool = False) -> str:
    _check_size(len(str(text)), int(width))
    return do_indent(str(text), int(width), first, blank)


def _size(value: Any) -> int:
    """Characters, items or bits."""
    return value.bit_length() if isinstance(value, int) else len(value) if hasattr(value, "__len__") else 1


def _check_size(*factors: float) -> None:
    if math.prod(float(max(factor, 0)) for factor in factors) > MAX_SIZE:
        raise OverflowError("makes too large a value")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's: characters stand as they are, unless it is asked; a break is none of them."""
    _check_size(indent or 0, 10_000)
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    return _ESCAPED.sub(lambda found: json.dumps(found[0])[1:-1], text) if ensure_ascii else text


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


@functools.cache
def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    for name in _GROWING_FILTERS:
        del environment.filters[name]
    environment.filters |= {"tojson": _tojson, "join": _join, "replace": _replaced, "indent": _indented}
    environment.filters |= {_TURNS: _turns, _JOINED: _joined, _WRITTEN: _written}
    del environment.globals["lipsum"]
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
