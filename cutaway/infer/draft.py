"""Speculative decoding: tokens that may come next are guessed cheaply, and the model reads all of them in one step.

What it then draws decides, token by token: a guess that equals the draw is kept, and what follows it was computed already; at
the first that differs the draw stands. So a reply is the one that the model alone would have written, draw for draw. A
guess x is kept with probability p(x), which for a guess without chance is as often as by the rejection of Leviathan et al.
2023 (theorem 3.5); a draft model's guess is its likeliest token. That is our deviation.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.infer.blocks import BlockManager, blocks_for
from cutaway.infer.runner import Work
from cutaway.infer.sequence import TokenSequence
from cutaway.infer.torch_runner import TorchRunner
from cutaway.models.decoder import check_decoder
from cutaway.models.load import load

_CHUNK = 512  # tokens that a draft model reads at once


class SpeculativeConfig(Config):
    """How tokens are guessed."""

    method: Literal["ngram", "draft_model"] = Field("ngram", description="from the text so far, or by a smaller model")
    num_speculative_tokens: int = Field(4, ge=1, description="guesses per step")
    prompt_lookup_max: int = Field(4, ge=1, description="ngram: last tokens that must have occurred before, at most")
    prompt_lookup_min: int = Field(2, ge=1, description="ngram: and at least")
    model: str = Field("", description="draft_model: a folder, file or packaged model with the same tokeniser")

    @model_validator(mode="after")
    def _complete(self) -> "SpeculativeConfig":
        if (self.method == "draft_model") != bool(self.model):
            raise ValueError("method draft_model needs a model, and ngram none")
        if self.prompt_lookup_min > self.prompt_lookup_max:
            raise ValueError("prompt_lookup_min is more than prompt_lookup_max")
        return self


class Drafter(Protocol):
    """Guesses what follows."""

    def propose(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        """Guesses for each of the sequences that are being written, which are all there are."""
        ...


class NgramDrafter:
    """Guesses that what followed the same few tokens before follows them again (prompt lookup, Saxena 2023).

    Args:
        count: guesses.
        longest, shortest: tokens that must agree; longer agreements are preferred, and later ones.
    """

    def __init__(self, count: int, longest: int, shortest: int):
        self.count, self.longest, self.shortest = count, longest, shortest

    def propose(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        """As `Drafter.propose`."""
        return [self.guess(one.ids) for one in sequences]

    def guess(self, ids: Sequence[int]) -> list[int]:
        """What followed the last tokens before.

        >>> NgramDrafter(3, 4, 2).guess([1, 2, 3, 4, 5, 1, 2])
        [3, 4, 5]
        """
        for n in range(min(self.longest, len(ids) - 1), self.shortest - 1, -1):
            end = list(ids[-n:])
            for start in range(len(ids) - n - 1, -1, -1):
                if ids[start] == end[0] and list(ids[start : start + n]) == end:
                    return list(ids[start + n : start + n + self.count])
        return []


class ModelDrafter:
    """Guesses by a model of its own, with a cache of its own.

    Args:
        count: guesses.
        max_batch, context: of the engine.
    """

    def __init__(self, model: Any, count: int, max_batch: int, context: int):
        self.count, self.context = count, min(context, model.context)
        n_blocks = max_batch * blocks_for(self.context)
        self._runner, self._blocks = TorchRunner(model, n_blocks), BlockManager(n_blocks, max_batch)
        self._tables: dict[TokenSequence, list[int]] = {}
        self._read: dict[TokenSequence, list[int]] = {}  # the tokens whose keys and values it has

    def propose(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        """As `Drafter.propose`."""
        for gone in self._tables.keys() - set(sequences):
            self._blocks.release(self._tables.pop(gone))
            del self._read[gone]
        able = [one for one in sequences if len(one.ids) + self.count <= self.context]
        guesses: dict[TokenSequence, list[int]] = {one: [] for one in sequences}
        for one in able:
            self._catch_up(one)
        for _ in range(self.count if able else 0):
            work = []
            for one in able:
                ids, start = [*one.ids, *guesses[one]], len(self._read[one])
                work.append(Work(ids[start:], start, self._tables[one], [len(ids) - start - 1]))
                self._read[one] = ids
            for one, guess in zip(able, self._runner.run(work).argmax(-1).tolist(), strict=True):
                guesses[one].append(guess)
        return list(guesses.values())

    def _catch_up(self, one: TokenSequence) -> None:
        """Forget guesses that were wrong, make room for new ones, and read all but the last few tokens."""
        read, table = self._read.setdefault(one, []), self._tables.setdefault(one, [])
        while read != one.ids[: len(read)] or len(read) == len(one.ids):
            read.pop()
        while len(table) < blocks_for(len(one.ids) + self.count):
            table.append(self._blocks.take(table[-1] if table else None))
        while len(one.ids) - len(read) > _CHUNK:
            ids = one.ids[len(read) : len(read) + _CHUNK]
            self._runner.run([Work(ids, len(read), table, [])])
            read += ids


def make_drafter(config: SpeculativeConfig, model: Any, max_batch: int, context: int) -> Drafter:
    """What the settings ask for.

    Args:
        model: whose tokens are guessed.

    Raises:
        ConfigError: the draft model is no decoder, or has other tokens.
    """
    if config.method == "ngram":
        return NgramDrafter(config.num_speculative_tokens, config.prompt_lookup_max, config.prompt_lookup_min)
    weight = model.embedding.weight
    draft = load(config.model, dtype=str(weight.dtype).removeprefix("torch."), device=str(weight.device)).model
    check_decoder(draft)
    if draft.embedding.num_embeddings != model.embedding.num_embeddings:
        raise ConfigError(
            f"has {draft.embedding.num_embeddings} tokens and the model {model.embedding.num_embeddings}",
            field="speculative.model",
            value=config.model,
            hint="a smaller model of the same family",
        )
    return ModelDrafter(draft, config.num_speculative_tokens, max_batch, context)
