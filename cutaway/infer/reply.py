"""A reply being written: a request's sequence, with what draws its tokens and turns them into text. N positions, V vocabulary."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.core.errors import RequestError
from cutaway.decode.draw import draw, new_generator
from cutaway.decode.processors import History, process
from cutaway.decode.stop import StopStrings
from cutaway.infer.logprobs import token_logprobs
from cutaway.infer.request import FinishReason, Output, Request, TokenLogprob
from cutaway.infer.scheduler import Chunk
from cutaway.infer.sequence import TokenSequence
from cutaway.text.detokenize import Detokenizer
from cutaway.text.tokenizer import Tokenizer


class Reply(TokenSequence):
    """One of a request's replies.

    Args:
        max_tokens: new tokens at most.
        index: which of the replies; it has a seed of its own.
    """

    def __init__(self, request: Request, max_tokens: int, tokenizer: Tokenizer, index: int = 0):
        super().__init__(
            request.id,
            request.prompt_ids,
            request.priority,
            f"{len(request.adapter)}:{request.adapter}{request.cache_salt}",
            self._input_bytes if request.inputs else None,
            reuse=request.prompt_logprobs is None,  # what was read before has left no logits
        )
        self.request, self.max_tokens, self.tokenizer, self.index = request, max_tokens, tokenizer, index
        seed = request.sampling.seed
        self._generator = new_generator(None if seed is None else (seed + index) % 2**63)
        self._grammar = request.grammar.start() if request.grammar else None
        self._text, self._stop = Detokenizer(tokenizer), StopStrings(request.stop)
        self.prompt_logprobs: list[TokenLogprob | None] = [None]

    @property
    def written(self) -> int:
        """How many tokens it has."""
        return len(self.ids) - self.prompt_length

    def siblings(self) -> list["Reply"]:
        """The request's other replies, of which this is the first."""
        return [Reply(self.request, self.max_tokens, self.tokenizer, index) for index in range(1, self.request.n)]

    def wanted(self, chunk: Chunk["Reply"]) -> range:
        """Which tokens of a chunk it needs the logits of."""
        length = chunk.stop - chunk.start
        reads = self.request.prompt_logprobs is not None and chunk.start < self.prompt_length
        return range(0 if reads else length - chunk.last, length + len(chunk.guesses))

    def read(self, start: int, logits_NV: Tensor) -> None:
        """Note how likely the prompt's tokens were: logits of the positions from `start`. What is known already stays."""
        known = len(self.prompt_logprobs) - 1
        logits_NV = logits_NV[known - start : self.prompt_length - 1 - start] if known >= start else logits_NV[:0]
        if self.request.prompt_logprobs is not None and len(logits_NV):
            ids = self.ids[known + 1 : known + 1 + len(logits_NV)]
            self.prompt_logprobs += token_logprobs(logits_NV, ids, self.request.prompt_logprobs)

    def follow(self, guesses: Sequence[int], logits_NV: Tensor) -> list[Output]:
        """More tokens: one, and another after each guess that was right. Logits of what follows the last token and each guess."""
        outputs = []
        for logits_V, guess in zip(logits_NV, [*guesses, None], strict=True):
            outputs.append(self.advance(logits_V))
            if outputs[-1].finish_reason or outputs[-1].token_id != guess:
                break
        return outputs

    def advance(self, logits_V: Tensor) -> Output:
        """One more token."""
        request, written = self.request, self.written
        if not _has_best(logits_V):
            return self._failed("the model gave logits that are not numbers")
        history = History(request.prompt_ids, self.ids[self.prompt_length :])
        try:
            processed_V = process(logits_V, request.sampling, history, self._grammar)
        except RequestError as err:  # of a grammar
            return self._failed(str(err))
        if processed_V is not logits_V and not _has_best(processed_V):
            return self._failed("the settings leave no token to choose")
        if written < len(request.opening):
            token = request.opening[written]
        else:
            token = draw(processed_V, request.sampling.temperature == 0, self._generator)
        self.ids.append(token)
        logprob = None
        if request.logprobs is not None:
            (logprob,) = token_logprobs(logits_V[None], [token], request.logprobs)
        return self._output(token, logprob)

    def _output(self, token: int, logprob: TokenLogprob | None) -> Output:
        ended = token in self.tokenizer.end_ids and not self.request.ignore_end
        text = "" if ended else self._stop.push(self._text.push(token))
        reason: FinishReason | None = None
        if ended or self._stop.hit:
            reason = "stop"
        elif self.written >= self.max_tokens:
            reason = "length"
        if reason and not self._stop.hit:
            text += self._stop.push(self._text.flush())
            text += self._stop.flush()
        if self.written > 1:
            return Output(self.id, token, text, logprob, reason, index=self.index)
        read = None if self.request.prompt_logprobs is None else tuple(self.prompt_logprobs)
        return Output(self.id, token, text, logprob, reason, None, self.index, self.cached, read)

    def _failed(self, why: str) -> Output:
        return Output(self.id, None, "", None, "error", why, self.index)

    def _input_bytes(self, start: int, stop: int) -> bytes:
        parts = [value[start:stop].cpu().contiguous() for value in self.request.inputs.values()]
        return b"".join(part.flatten().view(torch.uint8).numpy().tobytes() for part in parts)


def _has_best(logits_V: Tensor) -> bool:
    """Whether one may be chosen: none is NaN, not all are -inf. In one pass: looking at each costs as much as drawing."""
    return math.isfinite(logits_V.max())
