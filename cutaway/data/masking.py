"""Masked language modelling: which tokens are hidden, and what stands in their place.

Devlin et al. 2019: of the chosen positions 80 % become the mask token, 10 % any token, 10 % stay. Chosen are single tokens,
whole words, or spans (Joshi et al. 2020: lengths from a geometric distribution, here in tokens).

B rows, T positions, V vocabulary.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.data.batch import Batch
from cutaway.data.stream import BatchStream, DrawnStream
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.tokenizer import Tokenizer

MASK_TOKENS = ("[MASK]", "<mask>")
_LONGEST_SPAN = 10


class MaskingConfig(Config):
    """What is hidden."""

    unit: Literal["token", "word", "span"] = Field("token", description="what is chosen as a whole")
    share: float = Field(0.15, gt=0, lt=1, description="of the tokens, on average")
    replaced: float = Field(0.8, ge=0, le=1, description="of the chosen: become the mask token")
    random: float = Field(0.1, ge=0, le=1, description="of the chosen: become any token; the rest stays")
    span: float = Field(3.0, ge=1, description="mean length of a span; unit=span: before it is cut at 10")

    @model_validator(mode="after")
    def _shares(self) -> "MaskingConfig":
        if self.replaced + self.random > 1:
            raise ValueError(f"replaced {self.replaced} and random {self.random} are more than 1 together")
        return self


def mask_id(tokenizer: Tokenizer) -> int:
    """The id of the mask token.

    Raises:
        ConfigError: the tokeniser has none.
    """
    for token in MASK_TOKENS:
        if token in tokenizer.special:
            return tokenizer.special[token]
    raise ConfigError("has no mask token", field="tokenizer", hint=f"a special token {' or '.join(MASK_TOKENS)}")


def word_starts(tokenizer: Tokenizer) -> Tensor:
    """V, boolean: whether a token begins a word: it is no WordPiece continuation, or begins with a space or a sign."""
    starts = torch.ones(tokenizer.vocab_size, dtype=torch.bool)
    wordpiece = any(token.startswith("##") for token in tokenizer.backend.get_vocab(with_added_tokens=False))
    for token, id in tokenizer.backend.get_vocab(with_added_tokens=False).items():
        if wordpiece:
            starts[id] = not token.startswith("##")
        else:
            first = tokenizer.token_bytes(id)[:1]
            starts[id] = not (first.isalnum() or first >= b"\x80")  # bytes of other scripts go with what is before them
    return starts


def choose(candidates_BT: Tensor, starts_BT: Tensor, config: MaskingConfig, generator: torch.Generator) -> Tensor:
    """B × T, boolean: the positions to predict, about `share` of the candidates; at least one of each row that has any.

    Args:
        candidates_BT: tokens that may be hidden; special ones and padding may not.
        starts_BT: where a word begins; a position without candidate ends one too.
    """
    B, T = candidates_BT.shape
    if config.unit == "span":
        return _spans(candidates_BT, config, generator)
    fresh = torch.ones_like(candidates_BT) if config.unit == "token" else starts_BT | ~candidates_BT
    fresh[:, 0] = True
    unit_BT = fresh.long().cumsum(1) - 1
    drawn = torch.rand(B, T, generator=generator)
    likely_BT = drawn.gather(1, unit_BT)  # one draw for all tokens of a unit
    chosen_BT = (likely_BT < config.share) & candidates_BT
    lowest = likely_BT.masked_fill(~candidates_BT, 2.0).amin(1, keepdim=True)
    return torch.where(chosen_BT.any(1, keepdim=True), chosen_BT, (likely_BT == lowest) & candidates_BT)


def _spans(candidates_BT: Tensor, config: MaskingConfig, generator: torch.Generator) -> Tensor:
    chosen_BT = torch.zeros_like(candidates_BT)
    for row, candidates_T in enumerate(candidates_BT):
        free = candidates_T.nonzero().flatten()
        wanted = max(1, round(config.share * len(free))) if len(free) else 0
        while int(chosen_BT[row].sum()) < wanted:
            start = int(free[torch.randint(len(free), (1,), generator=generator)])
            length = torch.empty(1).geometric_(1 / config.span, generator=generator).clamp_(max=_LONGEST_SPAN)
            room = min(int(length), wanted - int(chosen_BT[row].sum()))
            span = slice(start, start + room)
            chosen_BT[row, span] |= candidates_T[span]
    return chosen_BT


def hide(
    ids_BT: Tensor, chosen_BT: Tensor, mask: int, vocab_size: int, config: MaskingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The ids as the model sees them, and the targets: the hidden tokens, `IGNORED` elsewhere."""
    draw_BT = torch.rand(ids_BT.shape, generator=generator)
    any_BT = torch.randint(vocab_size, ids_BT.shape, generator=generator)
    seen_BT = torch.where(chosen_BT & (draw_BT < config.replaced), mask, ids_BT)
    by_chance_BT = chosen_BT & (draw_BT >= config.replaced) & (draw_BT < config.replaced + config.random)
    return torch.where(by_chance_BT, any_BT, seen_BT), torch.where(chosen_BT, ids_BT, IGNORED)


class Masker:
    """Hides words of one tokeniser: it knows the mask token, where words begin, and what is never hidden."""

    def __init__(self, tokenizer: Tokenizer, config: MaskingConfig):
        self.config, self.mask, self.vocab_size = config, mask_id(tokenizer), tokenizer.vocab_size
        self.starts_V = word_starts(tokenizer)
        self.special_V = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        self.special_V[list(tokenizer.special.values())] = True

    def __call__(
        self, ids_BT: Tensor, real_BT: Tensor, generator: torch.Generator, first_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The ids as the model sees them, and the targets.

        Args:
            real_BT: where there is no padding.
            first_BT: where a word begins whatever the token: at the first of a document.
        """
        starts_BT = self.starts_V[ids_BT] if first_BT is None else self.starts_V[ids_BT] | first_BT
        chosen_BT = choose(real_BT & ~self.special_V[ids_BT], starts_BT, self.config, generator)
        return hide(ids_BT, chosen_BT, self.mask, self.vocab_size, self.config, generator)


class MaskedStream(DrawnStream[Batch]):
    """The batches of a stream with tokens hidden."""

    def __init__(self, stream: BatchStream, tokenizer: Tokenizer, config: MaskingConfig):
        self.masker = Masker(tokenizer, config)
        super().__init__(stream, self._masked)

    def _masked(self, batch: Batch, generator: torch.Generator) -> Batch:
        ids_BT, targets_BT = self.masker(batch.ids_BT, batch.segments_BT != 0, generator, batch.positions_BT == 0)
        return Batch(ids_BT, targets_BT, batch.positions_BT, batch.segments_BT)
