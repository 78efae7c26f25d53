"""How a cost grows with a length: as a power of it, or exponentially."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """Two laws, each a straight line through the logarithms of the costs.

    Args:
        exponent: of the power law, cost ∝ length^exponent.
        power_r2: how much of the logarithms' variance the power law explains.
        exponential_r2: how much an exponential does, cost ∝ base^length.
    """

    exponent: float
    power_r2: float
    exponential_r2: float


def growth(lengths: Sequence[float], costs: Sequence[float]) -> Growth:
    """Fit both laws by least squares.

    >>> growth([1, 2, 4, 8], [3, 12, 48, 192]).exponent
    2.0
    """
    y = np.log(np.array(costs, float))
    exponent, power_r2 = _line(np.log(np.array(lengths, float)), y)
    return Growth(round(exponent, 6), power_r2, _line(np.array(lengths, float), y)[1])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and R² of the line through the points."""
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(1 - ((y - slope * x - offset) ** 2).sum() / ((y - y.mean()) ** 2).sum())
