"""The gradient of one optimiser step: accumulated over micro-batches, normalised by supervised tokens, checked and clipped."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.distributed import by_mesh, size, total
from cutaway.core.errors import NonFiniteLossError, NothingSupervisedError
from cutaway.train.objectives import Metrics, Objective


@dataclass(frozen=True)
class StepResult:
    """What one accumulation found.

    Args:
        loss: mean over supervised tokens, in nats.
        targets: supervised tokens.
        tokens: tokens read, padding left out.
        metrics: those of the objective, mean over micro-batches.
    """

    loss: float
    targets: int
    tokens: int
    metrics: dict[str, float]


def accumulate(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    step: int = 0,
    precision: torch.dtype = torch.float32,
    copies: int = 1,
) -> StepResult:
    """Leave in `.grad` the gradient of the mean loss over all supervised tokens of `batches`; otherwise as `accumulate_sum`."""
    result = accumulate_sum(model, objective, batches, step, precision, copies)
    _scale(gradients(model), 1 / result.targets)
    return result


def accumulate_sum(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    step: int = 0,
    precision: torch.dtype = torch.float32,
    copies: int = 1,
) -> StepResult:
    """Leave in `.grad` the gradient of the loss summed over all supervised tokens of `batches`.

    What divides it is the number of tokens of all micro-batches, so any split of the same rows gives the same gradient,
    however unevenly the supervised tokens lie.

    Args:
        step: for the messages.
        precision: bfloat16 for autocast; the weights stay as they are.
        copies: how many processes read each batch.

    Raises:
        NonFiniteLossError: a loss that is NaN or infinite; gradients are not to be used.
        NothingSupervisedError: no micro-batch holds a supervised token.
    """
    device = next(model.parameters()).device
    loss_sum, targets, tokens, seen = 0.0, 0, 0, 0
    metrics: dict[str, float] = {}
    for index, batch in enumerate(batches):
        batch = batch.to(device)
        with autocast(device, precision):
            loss, n, found = objective(model, batch)
        value = loss.item()
        if not _finite(value) and size() == 1:
            raise _not_finite(value, step, f", micro-batch {index + 1}")
        if n or size() > 1:  # the other processes wait for this one's gradients, whatever it supervises
            loss.backward()
        loss_sum, targets, seen = loss_sum + value, targets + n, seen + 1
        tokens += batch.n_tokens
        _add(metrics, found)
    loss_sum, n_targets, n_tokens, n_seen = (value / copies for value in total(loss_sum, targets, tokens, seen))
    if not _finite(loss_sum):
        raise _not_finite(loss_sum, step, "")
    if not n_targets:
        raise NothingSupervisedError(
            f"step {step} holds no supervised token", hint="check the loss mask: do the replies fit into data.seq_len?"
        )
    sums = dict(zip(metrics, total(*metrics.values()), strict=True))
    means = {name: value / copies / n_seen for name, value in sums.items()}
    return StepResult(loss_sum / n_targets, int(n_targets), int(n_tokens), means)


def _not_finite(value: float, step: int, where: str) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"the loss is {value} at step {step}{where}; the optimiser did not step on it",
        hint="lower optim.lr, look at the data, or set loop.precision=float32",
    )


def clip(model: nn.Module, limit: float | None, step: int = 0, divisor: float = 1.0) -> float:
    """Divide the gradient, and scale it so that its global norm is at most `limit`: once, since every pass over all gradients
    takes about a hundredth of a step. Returns the norm before clipping.

    Raises:
        NonFiniteLossError: a gradient that is NaN or infinite.
    """
    grads = gradients(model)
    value = _norm(grads) / divisor
    if not _finite(value):
        raise NonFiniteLossError(
            f"the gradient norm is {value} at step {step}; the optimiser did not step on it", hint="lower optim.lr"
        )
    scale = (min(1.0, limit / value) if limit is not None and value > 0 else 1.0) / divisor
    if scale != 1.0:
        _scale(grads, scale)
    return value


def gradient_norms(model: Any, divisor: float = 1.0) -> dict[str, float]:
    """Norm of the divided gradient by part: the embedding, every block, and what is left (final norm, untied head); of a model
    without these, all of it."""
    parts: dict[str, list[nn.Parameter]] = {}
    if hasattr(model, "embedding"):
        parts["embedding"] = list(model.embedding.parameters())
    blocks = enumerate(getattr(model, "blocks", ()))
    parts.update({f"block {index:02d}": list(block.parameters()) for index, block in blocks})
    named = {id(parameter) for part in parts.values() for parameter in part}
    parts["rest"] = [parameter for parameter in model.parameters() if id(parameter) not in named]
    grads = {name: [p.grad for p in part if p.grad is not None] for name, part in parts.items()}
    return {name: _norm(found) / divisor for name, found in grads.items() if found}


def _norm(grads: list[Tensor]) -> float:
    norms = [torch.nn.utils.get_total_norm(alike) for alike in by_mesh(grads)]
    return math.hypot(*(norm.full_tensor().item() if hasattr(norm, "full_tensor") else norm.item() for norm in norms))


def _scale(grads: list[Tensor], factor: float) -> None:
    for alike in by_mesh(grads):
        torch._foreach_mul_(alike, factor)


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients that exist, in the order of the parameters."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Products in `precision` while the weights stay in theirs; float32 changes nothing."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _add(totals: dict[str, float], found: Metrics) -> None:
    for name, value in found.items():
        totals[name] = totals.get(name, 0.0) + float(value)


def _finite(value: float) -> bool:
    return value - value == 0.0
