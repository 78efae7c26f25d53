"""Beam search as a function of a step, without a model.

At each step every beam is extended by every token and the best `width` running continuations are kept; those that end go to
the finished ones, scored by log-probability / length^length_penalty. The rules (how many candidates per step, when to stop)
are those of transformers, so that the sequences are equal token for token. B prompts, W beams, V vocabulary.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cutaway.core.config import Config


class Beam(Config):
    """Settings of beam search."""

    width: int = Field(4, ge=1, description="running beams per prompt")
    n_best: int = Field(1, ge=1, description="finished sequences to return, at most width")
    length_penalty: float = Field(1.0, description="scores are divided by length ** it; above 0 favours long sequences")
    early_stopping: bool | Literal["never"] = Field(
        False,
        description="true: stop at `width` finished; false: when no running beam at its present length can win; "
        "never: when none can win at any length",
    )

    @model_validator(mode="after")
    def _enough_beams(self) -> "Beam":
        if self.n_best > self.width:
            raise ValueError(f"n_best {self.n_best} is more than width {self.width}")
        return self


@dataclass(frozen=True)
class Hypothesis:
    """A finished sequence: its new tokens (the end token included), and its penalised score."""

    ids: list[int]
    score: float


# (last tokens B·W, row each beam continues B·W) -> log-probabilities B·W × V of the next token.
Step = Callable[[Tensor, Tensor], Tensor]


@dataclass
class _Finished:
    width: int
    kept: list[Hypothesis] = field(default_factory=list)

    def add(self, hypothesis: Hypothesis) -> None:
        self.kept.append(hypothesis)
        self.kept.sort(key=lambda kept: -kept.score)
        del self.kept[self.width :]

    @property
    def full(self) -> bool:
        return len(self.kept) == self.width


def beam_search(
    first_BV: Tensor, step: Step, beam: Beam, end_ids: Collection[int], max_tokens: int
) -> list[list[Hypothesis]]:
    """Search from each prompt.

    Args:
        first_BV: log-probabilities of the first new token.
        step: gives the next log-probabilities; called with rows b·W + w, of which the caller keeps the caches.
        end_ids: tokens that end a sequence.
        max_tokens: new tokens at most; beams still running then count as finished.

    Returns:
        Per prompt the `n_best` best hypotheses, best first.
    """
    B, V = first_BV.shape
    W = beam.width
    ends = torch.tensor(sorted(end_ids), dtype=torch.int64, device=first_BV.device)
    # All beams of a prompt are still the same one: only the first may be extended.
    scores_BW = torch.full((B, W), -1e9, device=first_BV.device)
    scores_BW[:, 0] = 0
    log_BWV = first_BV[:, None].expand(B, W, V)
    written: list[list[list[int]]] = [[[] for _ in range(W)] for _ in range(B)]
    finished = [_Finished(W) for _ in range(B)]
    done = [False] * B
    for length in range(1, max_tokens + 1):
        totals = (scores_BW[:, :, None] + log_BWV.float()).reshape(B, W * V)
        best, places = totals.topk(min(max(2, 1 + len(ends)) * W, W * V), sorted=True)
        rows, tokens = places // V, places % V
        running = torch.zeros(B, W, dtype=torch.int64), torch.zeros(B, W, dtype=torch.int64)
        for b in range(B):
            kept = 0
            previous = written[b]
            extended = []
            for rank, (score, row, token) in enumerate(
                zip(best[b].tolist(), rows[b].tolist(), tokens[b].tolist(), strict=True)
            ):
                ids = [*previous[row], token]
                if token in end_ids or length == max_tokens:
                    # Only a candidate among the best `width` may finish.
                    if rank < W and not done[b] and score > -1e8:
                        finished[b].add(Hypothesis(ids, score / length**beam.length_penalty))
                elif kept < W:
                    running[0][b, kept], running[1][b, kept] = row, token
                    scores_BW[b, kept] = score
                    extended.append(ids)
                    kept += 1
            for lacking in range(kept, W):  # a vocabulary smaller than the beam
                scores_BW[b, lacking] = -1e9
                extended.append(extended[0] if extended else [])
            written[b] = extended
            if length < max_tokens:
                done[b] = done[b] or _settled(finished[b], float(scores_BW[b].max()), length, max_tokens, beam)
        if length == max_tokens or all(done):
            break
        base = torch.arange(B)[:, None] * W
        log_BWV = step(running[1].flatten(), (base + running[0]).flatten()).reshape(B, W, V)
    return [one.kept[: beam.n_best] for one in finished]


def _settled(finished: _Finished, best_running: float, length: int, max_tokens: int, beam: Beam) -> bool:
    """Whether nothing that still runs can come among the finished."""
    if not finished.full:
        return False
    if beam.early_stopping is True:
        return True
    worst = finished.kept[-1].score
    # With "never" and a positive penalty a beam may yet gain by growing; otherwise its present length is its best.
    reach = max_tokens if beam.early_stopping == "never" and beam.length_penalty > 0 else length
    return best_running / reach**beam.length_penalty <= worst
