"""The engine: many requests at once, each step one new token for every one that is past its prompt.

    engine = Engine(load("smollm2-135m-instruct"))
    engine.add(Request(prompt_ids=[...]))
    while not engine.idle:
        for output in engine.step(): ...

One thread owns it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.device import free_memory
from cutaway.core.errors import ContextLengthError, RequestError, ResourceError
from cutaway.decode.beam import Beam, Hypothesis
from cutaway.decode.sampling import Sampling
from cutaway.infer import native_decoder, torch_runner
from cutaway.infer.beam import beam_decode
from cutaway.infer.blocks import BLOCK_SIZE, BlockManager, blocks_for
from cutaway.infer.draft import Drafter, SpeculativeConfig, make_drafter
from cutaway.infer.reply import Reply
from cutaway.infer.request import Completion, Output, Request
from cutaway.infer.runner import Runner, Work
from cutaway.infer.scheduler import Chunk, Scheduler
from cutaway.infer.torch_runner import TorchRunner
from cutaway.models.decoder import check_decoder
from cutaway.models.load import Loaded

_CACHE_SHARE = 0.9  # of the free memory; what a step computes needs some too


class EngineConfig(Config):
    """How much runs at once."""

    max_batch: int = Field(8, ge=1, description="replies that are written at once")
    context: int = Field(0, ge=0, description="tokens per request, prompt and reply; 0: the model's own context")
    max_num_batched_tokens: int = Field(2048, ge=1, description="tokens per step, of prompts and replies together")
    prefill_chunk: int = Field(512, ge=1, description="tokens of one prompt per step")
    kv_cache_tokens: int = Field(
        0, ge=0, description="tokens that the cache holds; 0: max_batch times the context, or what fits into memory"
    )
    enable_prefix_caching: bool = Field(True, description="read no beginning again that is still in the cache")
    speculative: SpeculativeConfig | None = Field(None, description="guess tokens and check several in one step")

    @model_validator(mode="after")
    def _one_token_each(self) -> "EngineConfig":
        if self.max_num_batched_tokens < self.max_batch:
            raise ValueError(f"max_num_batched_tokens {self.max_num_batched_tokens} is less than max_batch")
        return self


class Engine:
    """Runs requests on a model.

    Args:
        loaded: the model and its tokeniser.
        config: how much runs at once.
        runner: what computes; by default native kernels where they suit the model, else its own modules.
        drafter: what guesses; by default what the configuration says.
        adapted: variants of the model that requests may name (`Request.adapter`), on the same weights.

    Raises:
        ConfigError: the model is no decoder.
        ResourceError: the cache would not fit into memory, or hold not even one request of full length.
    """

    def __init__(
        self,
        loaded: Loaded,
        config: EngineConfig | None = None,
        runner: Runner | None = None,
        drafter: Drafter | None = None,
        adapted: Mapping[str, Any] | None = None,
    ):
        check_decoder(loaded.model)
        self.config = c = config or EngineConfig()
        self.model, self.tokenizer, self.name = loaded.model, loaded.tokenizer, loaded.name
        self.context = min(c.context or self.model.context, self.model.context)
        self.adapted = dict(adapted or {})
        self._runner = runner or self._make_runner()
        self._drafter = drafter
        if drafter is None and c.speculative is not None:
            self._drafter = make_drafter(c.speculative, self.model, c.max_batch, self.context)
        blocks = BlockManager(self._runner.n_blocks, c.max_batch)
        self._scheduler: Scheduler[Reply] = Scheduler(blocks, c.max_batch, c.max_num_batched_tokens, c.prefill_chunk)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self._scheduler.idle

    @property
    def waiting(self) -> int:
        """Replies that wait for a place."""
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        """Replies that run."""
        return len(self._scheduler.running)

    @property
    def cached_tokens(self) -> int:
        """Positions of the cache in use."""
        return BLOCK_SIZE * self._scheduler.blocks.used

    @property
    def cache_size(self) -> int:
        """Positions of the whole cache."""
        return BLOCK_SIZE * self._scheduler.blocks.n_blocks

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
        if request.adapter and request.adapter not in self.adapted:
            raise RequestError("no such adapter", field="adapter", value=request.adapter)
        if "" in request.stop:
            raise RequestError("holds an empty string", field="stop")
        if request.max_tokens is not None and request.max_tokens < 1:
            raise RequestError("must be at least 1", field="max_tokens", value=request.max_tokens)
        if request.n < 1:
            raise RequestError("must be at least 1", field="n", value=request.n)
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
        reply = Reply(request, self.check(request), self.tokenizer)
        reply.reuse = reply.reuse and self.config.enable_prefix_caching
        self._scheduler.add(reply)
        return request.id

    def cancel(self, request_id: str) -> bool:
        """Take a request out before the next step; false when it is not there (any more)."""
        replies = [one for one in (*self._scheduler.running, *self._scheduler.waiting) if one.id == request_id]
        for reply in replies:
            self._scheduler.remove(reply)
        return bool(replies)

    def step(self) -> list[Output]:
        """Read on in prompts, and give every reply that is past its own one more token."""
        self._guess()
        step = self._scheduler.schedule()
        for source, target in step.copies:
            self._runner.copy(source, target)
        logits = self._compute(step.chunks)
        self._scheduler.commit(step)
        return [output for chunk, rows_NV in logits for output in self._draw(chunk, rows_NV)]

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, max_tokens: int = 256, **settings: Any
    ) -> list[Completion]:
        """Continue every prompt, all at once; `settings` are those of `Request`. Completions come in the prompts' order."""
        return self.run([Request(prompt, sampling, max_tokens, **settings) for prompt in prompts])

    def run(self, requests: Sequence[Request]) -> list[Completion]:
        """Serve requests, all at once, to their ends. Completions come in the requests' order, `n` of each."""
        for request in requests:
            self.add(request)
        outputs: dict[tuple[str, int], list[Output]] = {(one.id, i): [] for one in requests for i in range(one.n)}
        while not self.idle:
            for output in self.step():
                if (output.request_id, output.index) in outputs:
                    outputs[output.request_id, output.index].append(output)
        return [gather(found) for found in outputs.values()]

    def beam(self, prompt_ids: Sequence[int], beam: Beam, max_tokens: int = 256) -> list[Hypothesis]:
        """Beam search from one prompt, on a cache of its own; the `n_best` best sequences, best first."""
        self.check(Request(prompt_ids, max_tokens=max_tokens))
        return beam_decode(self.model, [prompt_ids], beam, self.tokenizer.end_ids, max_tokens)[0]

    def _compute(self, chunks: Sequence[Chunk[Reply]]) -> list[tuple[Chunk[Reply], Tensor]]:
        """Each chunk with the logits that it asks for."""
        if not chunks:
            return []
        work = [_work(chunk) for chunk in chunks]
        rows = self._runner.run(work).split([len(one.wanted) for one in work])
        return list(zip(chunks, rows, strict=True))

    def _draw(self, chunk: Chunk[Reply], logits_NV: Tensor) -> list[Output]:
        """What comes of a chunk: nothing as long as its prompt goes on; the first token of all replies at its end."""
        first = chunk.sequence
        first.read(chunk.start, logits_NV)
        if not chunk.last:
            return []
        replies = [first] if first.written else [first, *first.siblings()]
        for sibling in replies[1:]:
            sibling.prompt_logprobs = first.prompt_logprobs
            self._scheduler.fork(first, sibling)
        follows_NV = logits_NV[-1 - len(chunk.guesses) :]
        return [output for reply in replies for output in self._write(reply, chunk.guesses, follows_NV)]

    def _write(self, reply: Reply, guesses: Sequence[int], logits_NV: Tensor) -> list[Output]:
        outputs = reply.follow(guesses, logits_NV)
        self._scheduler.accept(reply, len(outputs) - 1)
        if outputs[-1].finish_reason:
            self._scheduler.remove(reply, forget=outputs[-1].finish_reason == "error")
        return outputs

    def _guess(self) -> None:
        """Let the drafter say what may follow the replies that are being written."""
        if self._drafter is None:
            return
        writing = [one for one in self._scheduler.running if one.written and one.pending == 1]
        for one, guesses in zip(writing, self._drafter.propose(writing), strict=True):
            one.guesses = guesses[: one.max_tokens - one.written - 1]

    def _make_runner(self) -> Runner:
        if not self.adapted and native_decoder.suits(self.model):
            count = self._count_blocks(native_decoder.block_bytes(self.model))
            return native_decoder.NativeDecoder(self.model, count, self.context)
        return TorchRunner(self.model, self._count_blocks(torch_runner.block_bytes(self.model)), self.adapted)

    def _count_blocks(self, size_of_one: int) -> int:
        c, one = self.config, blocks_for(self.context)
        room = int(_CACHE_SHARE * free_memory(self.model.embedding.weight.device)) // size_of_one
        count = blocks_for(c.kv_cache_tokens) or min(c.max_batch * one, max(room, one))
        if count < one:
            raise ResourceError(
                f"one request may have {self.context} tokens, and the cache holds fewer",
                field="engine.kv_cache_tokens",
                value=c.kv_cache_tokens,
                hint="a larger one, or a smaller engine.context",
            )
        if count > room:
            size, free = (n * size_of_one / 2**30 for n in (count, room))
            raise ResourceError(
                f"the cache takes {size:.1f} GiB and {free:.1f} GiB are free for it",
                field="engine",
                hint="lower engine.context, or engine.kv_cache_tokens",
            )
        return count


def _work(chunk: Chunk[Reply]) -> Work:
    one = chunk.sequence
    ids = [*one.ids[chunk.start : chunk.stop], *chunk.guesses]
    return Work(ids, chunk.start, one.table, one.wanted(chunk), one.request.inputs, one.request.adapter)


def gather(outputs: Sequence[Output]) -> Completion:
    """Put the outputs of one reply together.

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
        outputs[0].prompt_logprobs,
        outputs[0].cached_tokens or 0,
    )
