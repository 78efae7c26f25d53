"""The engine: many requests at once, each step one new token for every one that runs.

    engine = Engine(load("smollm2-135m-instruct"))
    engine.add(Request(prompt_ids=[...]))
    while not engine.idle:
        for output in engine.step(): ...

One thread owns it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.device import free_memory
from cutaway.core.errors import ContextLengthError, RequestError, ResourceError
from cutaway.decode.beam import Beam, Hypothesis, beam_search
from cutaway.decode.draw import draw, new_generator
from cutaway.decode.processors import History, process
from cutaway.decode.sampling import Sampling
from cutaway.decode.stop import StopStrings
from cutaway.infer.request import Completion, FinishReason, Output, Request, TokenLogprob
from cutaway.infer.runner import Runner
from cutaway.infer.scheduler import Scheduler
from cutaway.models.decoder import check_decoder
from cutaway.models.load import Loaded
from cutaway.text.detokenize import Detokenizer


class EngineConfig(Config):
    """How much runs at once."""

    max_batch: int = Field(8, ge=1, description="requests that run at once")
    context: int = Field(0, ge=0, description="tokens per request, prompt and reply; 0: the model's own context")
    prefill_chunk: int = Field(512, ge=1, description="prompt tokens per forward pass")
    prefill_budget: int = Field(2048, ge=1, description="prompt tokens that may start per step")


class _Running:
    """A request with what it has written."""

    def __init__(self, request: Request, max_tokens: int, engine: "Engine"):
        self.request, self.id, self.max_tokens = request, request.id, max_tokens
        self.generated: list[int] = []
        self.generator = new_generator(request.sampling.seed)
        self.text = Detokenizer(engine.tokenizer)
        self.stop = StopStrings(request.stop)

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt_ids)


class Engine:
    """Runs requests on a model.

    Args:
        loaded: the model and its tokeniser.
        config: how much runs at once.

    Raises:
        ConfigError: the model is no decoder.
        ResourceError: the cache at its fullest would not fit into memory.
    """

    def __init__(self, loaded: Loaded, config: EngineConfig | None = None):
        check_decoder(loaded.model)
        self.config = config or EngineConfig()
        self.model, self.tokenizer, self.name = loaded.model, loaded.tokenizer, loaded.name
        self.context = min(self.config.context or self.model.context, self.model.context)
        self._runner = Runner(self.model, self.config.max_batch, self.context, self.config.prefill_chunk)
        self._scheduler: Scheduler[_Running] = Scheduler(self.config.max_batch, self.config.prefill_budget)
        free = free_memory(self._runner.device)
        if self._runner.cache.nbytes > free:
            raise ResourceError(
                f"the cache can grow to {self._runner.cache.nbytes / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free",
                field="engine",
                hint="lower engine.max_batch or engine.context",
            )

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self._scheduler.idle

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        """Requests that run."""
        return len(self._scheduler.running)

    @property
    def cached_tokens(self) -> int:
        """Positions of the cache in use."""
        return int(self._runner.cache.lengths[: self.running].sum())

    def check(self, request: Request) -> int:
        """How many new tokens the request may make; refuses one that cannot run, naming the field."""
        length, V = len(request.prompt_ids), self.model.embedding.num_embeddings
        if not length:
            raise RequestError("is empty", field="prompt")
        if any(not 0 <= id < V for id in request.prompt_ids):
            raise RequestError(f"holds a token id outside 0 to {V - 1}", field="prompt")
        request.sampling.check_ids(V)
        assert all(len(value) == length for value in request.inputs.values()), (
            "inputs are those of the prompt's positions"
        )
        if any(not 0 <= id < V for id in request.opening):
            raise RequestError(f"holds a token id outside 0 to {V - 1}", field="opening")
        if "" in request.stop:
            raise RequestError("holds an empty string", field="stop")
        if request.max_tokens is not None and request.max_tokens < 1:
            raise RequestError("must be at least 1", field="max_tokens", value=request.max_tokens)
        if length >= self.context:
            raise ContextLengthError(
                f"has {length} tokens and the context holds {self.context}, the reply included",
                field="prompt",
                hint="shorten it",
            )
        room = self.context - length
        if request.max_tokens is not None and request.max_tokens > room:
            raise ContextLengthError(
                f"the prompt has {length} tokens and the context holds {self.context}: {room} are left for the reply",
                field="max_tokens",
                value=request.max_tokens,
            )
        return request.max_tokens or room

    def add(self, request: Request) -> str:
        """Queue a request; its id."""
        self._scheduler.add(_Running(request, self.check(request), self))
        return request.id

    def cancel(self, request_id: str) -> bool:
        """Take a request out before the next step; false when it is not there (any more)."""
        removed, move = self._scheduler.remove(request_id)
        if move:
            self._runner.move(move.source, move.target)
        return removed is not None

    def step(self) -> list[Output]:
        """Start what may start, and give every running request one more token."""
        before = list(self._scheduler.running)
        admitted = self._scheduler.admit()
        logits: list[tuple[_Running, Tensor]] = []
        if before:
            last = [one.generated[-1] for one in before]
            logits += zip(before, self._runner.decode(last), strict=True)
        logits += [
            (one, self._runner.prefill(row, one.request.prompt_ids, one.request.inputs)) for row, one in admitted
        ]
        outputs = [self._advance(one, row_V) for one, row_V in logits]
        for output in outputs:
            if output.finish_reason:
                self.cancel(output.request_id)
        return outputs

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, max_tokens: int = 256, **settings: Any
    ) -> list[Completion]:
        """Continue every prompt, all at once; `settings` are those of `Request`. Completions come in the prompts' order."""
        return self.run([Request(prompt, sampling, max_tokens, **settings) for prompt in prompts])

    def run(self, requests: Sequence[Request]) -> list[Completion]:
        """Serve requests, all at once, to their ends. Completions come in the requests' order."""
        for request in requests:
            self.add(request)
        outputs: dict[str, list[Output]] = {request.id: [] for request in requests}
        while not self.idle:
            for output in self.step():
                if output.request_id in outputs:
                    outputs[output.request_id].append(output)
        return [gather(outputs[request.id]) for request in requests]

    def beam(self, prompt_ids: Sequence[int], beam: Beam, max_tokens: int = 256) -> list[Hypothesis]:
        """Beam search from one prompt, on a cache of its own; the `n_best` best sequences, best first."""
        self.check(Request(prompt_ids, max_tokens=max_tokens))
        return beam_decode(self.model, [prompt_ids], beam, self.tokenizer.end_ids, max_tokens)[0]

    def _advance(self, one: _Running, logits_V: Tensor) -> Output:
        request = one.request
        if torch.isnan(logits_V).any() or not torch.isfinite(logits_V).any():
            return Output(one.id, None, "", None, "error", "the model gave logits that are not numbers")
        processed_V = process(logits_V, request.sampling, History(request.prompt_ids, one.generated))
        if not torch.isfinite(processed_V).any():
            return Output(one.id, None, "", None, "error", "the settings leave no token to choose")
        written = len(one.generated)
        if written < len(request.opening):
            token = request.opening[written]
        else:
            token = draw(processed_V, request.sampling.temperature == 0, one.generator)
        one.generated.append(token)
        logprob = None if request.logprobs is None else _logprob(logits_V, token, request.logprobs)
        ended = token in self.tokenizer.end_ids and not request.ignore_end
        text = "" if ended else one.stop.push(one.text.push(token))
        reason: FinishReason | None = None
        if ended or one.stop.hit:
            reason = "stop"
        elif len(one.generated) >= one.max_tokens:
            reason = "length"
        if reason and not one.stop.hit:
            text += one.stop.push(one.text.flush())
            text += one.stop.flush()
        return Output(one.id, token, text, logprob, reason)


def gather(outputs: Sequence[Output]) -> Completion:
    """Put the outputs of one request together.

    Raises:
        RequestError: the request failed.
    """
    last = outputs[-1]
    assert last.finish_reason is not None
    if last.finish_reason == "error":
        raise RequestError(last.error or "failed")
    return Completion(
        [output.token_id for output in outputs if output.token_id is not None],
        "".join(output.text for output in outputs),
        last.finish_reason,
        [output.logprob for output in outputs if output.logprob],
    )


@torch.inference_mode()
def beam_decode(
    model: Any, prompts: Sequence[Sequence[int]], beam: Beam, end_ids: Sequence[int] | frozenset[int], max_tokens: int
) -> list[list[Hypothesis]]:
    """Beam search on a decoder, all prompts in one batch: each prompt's beams are rows of one cache."""
    W, device = beam.width, model.embedding.weight.device
    cache = model.new_cache(len(prompts) * W, max(map(len, prompts)) + max_tokens)
    first = []
    for b, prompt in enumerate(prompts):
        row = cache.rows(b * W, b * W + 1)
        first.append(model.logits(model(torch.tensor([list(prompt)], device=device), cache=row)[0, -1]))
        for w in range(1, W):
            cache.move(b * W, b * W + w)

    def step(tokens: Tensor, rows: Tensor) -> Tensor:
        cache.select(rows.tolist())
        h = model(tokens.to(device)[:, None], cache=cache)
        return model.logits(h[:, -1]).float().log_softmax(-1)

    return beam_search(torch.stack(first).float().log_softmax(-1), step, beam, end_ids, max_tokens)


def _logprob(logits_V: Tensor, token: int, n: int) -> TokenLogprob:
    log_V = logits_V - logits_V.logsumexp(-1)
    best = log_V.topk(min(n, len(log_V)))
    assert math.isfinite(float(log_V[token]))
    return TokenLogprob(
        token, float(log_V[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    )
