"""What Prometheus reads. One registry per application, so that two servers in one process do not mix."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cutaway.infer.request import Output
from cutaway.serve.worker import Load

TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters, histograms, and gauges that are read from the worker when asked for."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cutaway_requests", "Answers by route and status", ["route", "status"], registry=registry
        )
        self.model_requests = Counter(
            "cutaway_model_requests", "Requests for replies by model or adapter", ["model"], registry=registry
        )
        self.seconds = Histogram(
            "cutaway_request_seconds", "From request to end of answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "cutaway_first_token_seconds", "From request to first token", buckets=SECONDS, registry=registry
        )
        self.token_seconds = Histogram(
            "cutaway_token_seconds", "Between two tokens of a reply", buckets=TOKEN_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "cutaway_tokens",
            "Tokens, of prompts (cached: of these, found in the cache) and replies",
            ["kind"],
            registry=registry,
        )
        self.grammars = Counter(
            "cutaway_grammars", "Schemas and other grammars by what became of them", ["outcome"], registry=registry
        )
        self.grammar_seconds = Histogram(
            "cutaway_grammar_seconds", "Compiling a grammar", buckets=SECONDS, registry=registry
        )
        self.tool_calls = Counter("cutaway_tool_calls", "Calls of functions in replies", registry=registry)
        self.ended = Counter("cutaway_replies", "Replies by how they ended", ["reason"], registry=registry)

    def watch(self, load: Callable[[], Load], capacity: int) -> None:
        """Show how busy the engine is.

        Args:
            capacity: positions of the whole cache.
        """
        shown = {
            "cutaway_running": ("Replies being written", lambda: load().running),
            "cutaway_waiting": ("Replies that wait for a row", lambda: load().waiting),
            "cutaway_cache_used": ("Share of the KV cache in use", lambda: load().cached_tokens / capacity),
        }
        for name, (meaning, value) in shown.items():
            Gauge(name, meaning, registry=self.registry).set_function(value)

    def count(self, outputs: list[Output]) -> None:
        """Count the outputs of a step."""
        self.tokens.labels("reply").inc(sum(output.token_id is not None for output in outputs))
        for output in outputs:
            if output.index == 0 and output.cached_tokens:
                self.tokens.labels("cached").inc(output.cached_tokens)
            if output.finish_reason:
                self.ended.labels(output.finish_reason).inc()

    def text(self) -> bytes:
        """The page for `/metrics`."""
        return generate_latest(self.registry)
