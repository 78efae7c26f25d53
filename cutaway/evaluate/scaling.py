"""A scaling law: how the loss falls with parameters and tokens, fitted to runs of one family (Hoffmann et al. 2022, equation 2).

    loss(N, D) = E + A / N^a + B / D^b

N parameters, D training tokens, E what no model gets below. Given the exponents the law is linear, so only they are searched: a
grid that zooms in, and non-negative least squares on relative residuals in each of its points. (The paper minimises a Huber loss
of logarithms by L-BFGS.) A term whose quantity is the same in all runs is left out.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core.errors import DataError

FLOPS_PER_PARAMETER_AND_TOKEN = 6
_EXPONENTS = (0.02, 2.0)  # searched between
_GRID, _ZOOMS = 15, 5


@dataclass(frozen=True)
class Run:
    """A trained model: parameters, tokens it was trained on, held-out loss in nats per token."""

    parameters: float
    tokens: float
    loss: float
    name: str = ""


@dataclass(frozen=True)
class Law:
    """The coefficients of loss(N, D) = E + A / N^a + B / D^b; A or B is 0 where that quantity was not varied."""

    E: float
    A: float
    a: float
    B: float
    b: float

    def loss(self, parameters: float, tokens: float) -> float:
        """The predicted loss, nats per token."""
        return self.E + self.A / parameters**self.a + self.B / tokens**self.b

    def best_split(self, flops: float) -> tuple[float, float] | None:
        """Parameters and tokens that give the lowest loss for 6 N D = `flops` (equation 4); None where a term is missing."""
        if not (self.A and self.B):
            return None
        product, G = (
            flops / FLOPS_PER_PARAMETER_AND_TOKEN,
            (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b)),
        )
        parameters = G * product ** (self.b / (self.a + self.b))
        return parameters, product / parameters


def fit_law(runs: Sequence[Run]) -> Law:
    """The law nearest to the runs.

    Raises:
        DataError: too few runs, or neither parameters nor tokens vary enough to tell the terms apart.
    """
    N, D, loss = (np.array([getattr(run, name) for run in runs], float) for name in ("parameters", "tokens", "loss"))
    varied = [quantity for quantity in (N, D) if len(np.unique(quantity)) >= 3]
    if not varied or len(runs) < 1 + 2 * len(varied):
        raise DataError(
            "too few to fit a law: three sizes or three numbers of tokens at least, and five runs where both vary",
            field="runs",
            value=len(runs),
        )
    for quantity, name in ((N, "parameters"), (D, "tokens")):
        if len(np.unique(quantity)) == 2:
            raise DataError("two values do not tell an exponent: one, or three and more", field=name, value="2 values")
    low, high = (np.full(len(varied), math.log(edge)) for edge in _EXPONENTS)
    best: tuple[float, np.ndarray, np.ndarray] = (math.inf, low, low)
    for _ in range(_ZOOMS):
        axes = [np.linspace(*edges, _GRID) for edges in zip(low, high, strict=True)]
        for point in itertools.product(*axes):
            columns = [np.ones_like(loss), *(q ** -math.exp(x) for q, x in zip(varied, point, strict=True))]
            error, found = _non_negative(np.stack(columns, 1) / loss[:, None])
            if error < best[0]:
                best = error, np.exp(point), found
        width = 1.5 * (high - low) / (_GRID - 1)
        low, high = np.log(best[1]) - width, np.log(best[1]) + width
    terms = {id(q): (float(c), float(x)) for q, c, x in zip(varied, best[2][1:], best[1], strict=True)}
    (A, a), (B, b) = terms.get(id(N), (0.0, 1.0)), terms.get(id(D), (0.0, 1.0))
    return Law(float(best[2][0]), A, a, B, b)


def _non_negative(columns: np.ndarray) -> tuple[float, np.ndarray]:
    """The non-negative mixture of columns that is nearest to one everywhere, and its squared error."""
    best = math.inf, np.zeros(columns.shape[1])
    target, scale = np.ones(len(columns)), np.abs(columns).max(0)
    for used in itertools.product((False, True), repeat=columns.shape[1]):
        mask = np.array(used)
        if not mask.any():
            continue
        found, *_ = np.linalg.lstsq(columns[:, mask] / scale[mask], target, rcond=None)
        if (found < 0).any():
            continue
        error = float(((columns[:, mask] / scale[mask]) @ found - target) ** 2 @ target)
        if error < best[0]:
            whole = np.zeros(columns.shape[1])
            whole[mask] = found / scale[mask]
            best = error, whole
    return best


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Runs from folders that the recipes wrote, and from JSONL files with a run per line: parameters, tokens, loss.

    Raises:
        DataError: a file or a value that is no run, by name.
    """
    return [run for path in paths for run in (_of_folder(path) if path.is_dir() else _of_lines(path))]


def _of_folder(folder: Path) -> list[Run]:
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        losses = report["held_out_loss"]
        values = {
            "parameters": report["parameters"]["all"],
            "tokens": report["tokens"],
            "loss": next(iter(losses.values()))["after"],
        }
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as err:
        raise DataError(f"holds no finished run: {err!r}", field="run", value=str(folder)) from None
    return [_run(values, str(folder))]


def _of_lines(file: Path) -> list[Run]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, ValueError) as err:
        raise DataError(f"is no JSONL file: {err}", field="run", value=str(file)) from None
    return [_run(row, f"{file}:{number}") for number, row in rows]


def _run(values: Any, where: str) -> Run:
    numbers = {}
    for name in ("parameters", "tokens", "loss"):
        value = values.get(name, "absent") if isinstance(values, dict) else "absent"
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
            raise DataError("must be a number above 0", field=f"{where}: {name}", value=value)
        numbers[name] = float(value)
    return Run(**numbers, name=where)


def report(runs: Sequence[Run]) -> dict[str, Any]:
    """The law of the runs, how far each is from it, and what the others would have said of the one that took most compute."""
    law = fit_law(runs)
    cost = [run.parameters * run.tokens for run in runs]
    largest = runs[cost.index(max(cost))]
    found: dict[str, Any] = {
        "law": asdict(law),
        "runs": [{**asdict(run), "predicted": law.loss(run.parameters, run.tokens)} for run in runs],
        "held_out": None,
    }
    try:
        others = fit_law([run for run in runs if run is not largest])
    except DataError:  # too few without it
        return found
    predicted = others.loss(largest.parameters, largest.tokens)
    return {**found, "held_out": {**asdict(largest), "predicted": predicted, "law": asdict(others)}}
