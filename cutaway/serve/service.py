"""What the routes share: the model, its engine's worker, the documents, the limits."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from cutaway.core.errors import CutawayError, near_matches
from cutaway.decode.grammar import Constraint, Grammar, GrammarCompiler
from cutaway.decode.sampling import Sampling
from cutaway.infer.engine import Engine
from cutaway.infer.request import Output, Request
from cutaway.models.load import Loaded
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.index import Index
from cutaway.serve.config import ServeConfig
from cutaway.serve.errors import Missing
from cutaway.serve.limits import check_limits
from cutaway.serve.metrics import Metrics
from cutaway.serve.protocol import Generation
from cutaway.serve.structured import constraint_of
from cutaway.serve.worker import Submission, Worker
from cutaway.text.chat import ChatRenderer

DEFAULTS = Sampling()


@dataclass
class Service:
    """One served model and all that goes with it."""

    config: ServeConfig
    loaded: Loaded
    index: Index | None = None
    embedder: Embedder | None = None
    adapters: Mapping[str, nn.Module] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.embedder = self.embedder or (self.index.embedder if self.index else None)
        self.engine = Engine(self.loaded, self.config.engine, adapted=self.adapters)
        self.worker = Worker(self.engine, self.config.max_waiting, self.metrics.count)
        self.metrics.watch(lambda: self.worker.load, self.engine.cache_size)
        self.tokenizer = self.loaded.tokenizer
        self.renderer = ChatRenderer(self.tokenizer)
        self._grammars = GrammarCompiler(self.tokenizer, self.config.max_schema)
        self._compiling = asyncio.Semaphore(1)

    def check_model(self, name: str | None, served: str | None = None) -> None:
        """Refuse a request for a model that is not served; None asks for whatever is.

        Args:
            served: the only one that will do; by default the model, or one of its adapters.
        """
        known = [served] if served else [self.loaded.name, *self.adapters]
        if name is not None and name not in known:
            raise Missing(f"no such model: {name!r} ({near_matches(name, known)})", "model", "model_not_found")

    def loaded_as(self, name: str | None) -> Loaded:
        """The model of this name, with its adapter if it is one's."""
        self.check_model(name)
        adapted = self.adapters.get(name or "")
        return replace(self.loaded, model=adapted) if adapted is not None else self.loaded

    async def compile(self, field: str, constraint: Constraint) -> Grammar:
        """Compile what a reply must be: on another thread than the engine's, one at a time.

        Raises:
            RequestError: it is refused; names the field.
        """
        async with self._compiling:
            started = time.monotonic()
            try:
                grammar = await asyncio.to_thread(self._grammars.compile, constraint, field)
            except CutawayError:
                self.metrics.grammars.labels("refused").inc()
                raise
            self.metrics.grammars.labels("compiled").inc()
            self.metrics.grammar_seconds.observe(time.monotonic() - started)
            return grammar

    async def grammar_of(self, body: Generation) -> Grammar | None:
        """The grammar that a request's reply must follow, if it names one."""
        found = constraint_of(body)
        return await self.compile(*found) if found else None

    def requests(
        self, prompts: Sequence[Sequence[int]], body: Generation, defaults: Sampling = DEFAULTS, **settings: Any
    ) -> list[Request]:
        """A request for `n` replies per prompt, checked.

        Args:
            defaults: for what the body does not set.
            settings: of the engine's request.

        Raises:
            CutawayError: a field of the body that cannot be, by its name.
        """
        given = {"n": body.n, "stop": body.stops, "cache_salt": body.cache_salt, **settings}
        given["adapter"] = body.model if body.model in self.adapters else ""
        check_limits(self.config, body, len(prompts), given.get("max_tokens"))
        sampling, requests = body.sampling(defaults), list[Request]()
        for prompt in prompts:
            request = Request(prompt, sampling, **given)
            room = self.engine.check(request)
            requests.append(replace(request, max_tokens=min(room, self.config.max_tokens or room)))
        return requests

    def submit(self, requests: Sequence[Request]) -> "Replies":
        """Queue requests, all or none.

        Raises:
            BusyError: no room for all of them now.
        """
        return Replies(self, requests, self.worker.submit(requests))

    def say(self, request: Request, text: str) -> "Replies":
        """Answer with a text of our own."""
        return Replies(self, [request], Said(request, text))


class Said:
    """A reply that is known without asking the model, in the form of a submission."""

    def __init__(self, request: Request, text: str):
        self._output = Output(request.id, None, text, None, "stop")

    async def __aiter__(self) -> AsyncIterator[tuple[int, Output]]:
        yield 0, self._output

    def close(self) -> None:
        """There is nothing to cancel."""


class Replies:
    """Replies being written, `n` to each request: their outputs as they come, and what is known at the end."""

    def __init__(self, service: Service, requests: Sequence[Request], submission: "Submission | Said"):
        self._service, self.requests, self.submission = service, requests, submission
        self.model = requests[0].adapter or service.loaded.name
        service.metrics.model_requests.labels(self.model).inc()
        self.prompt_tokens = sum(len(request.prompt_ids) for request in requests)
        service.metrics.tokens.labels("prompt").inc(self.prompt_tokens)
        self.outputs: list[list[Output]] = [[] for request in requests for _ in range(request.n)]
        self._started = time.monotonic()
        self._first: float | None = None
        self._last = [0.0] * len(self.outputs)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Output]]:
        metrics = self._service.metrics
        async for number, output in self.submission:
            now = time.monotonic()
            if self._first is None:
                self._first = now - self._started
                metrics.first_token.observe(self._first)
            if self.outputs[number]:
                metrics.token_seconds.observe(now - self._last[number])
            self._last[number] = now
            self.outputs[number].append(output)
            yield number, output

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens read and written so far, as OpenAI's API counts them; a prompt with several replies is read once."""
        outputs = [output for outputs in self.outputs for output in outputs]
        written = sum(output.token_id is not None for output in outputs)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": sum(map(_cached, outputs))},
        }

    @property
    def timings(self) -> dict[str, float]:
        """Seconds since the request was queued, and until its first token."""
        return {
            "seconds": round(time.monotonic() - self._started, 3),
            "first_token_seconds": round(self._first or 0.0, 3),
        }


def _cached(output: Output) -> int:
    """Tokens of its prompt that need not be read, told once per prompt: by the first output of its first reply."""
    return output.cached_tokens or 0 if output.index == 0 else 0
