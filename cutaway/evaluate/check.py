"""The outcome of one invariant."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """An invariant that held or did not.

    Args:
        name: the invariant.
        holds: whether it does.
        numbers: what was measured.
        tolerance: the largest difference that counts as equal; 0 where equal means equal.
        says: what was compared, and on what, in one sentence.
    """

    name: str
    holds: bool
    numbers: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    says: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def close(name: str, difference: float, tolerance: float, says: str, **numbers: Any) -> Check:
    """A check that a difference is within its tolerance (a NaN never is)."""
    return Check(name, difference <= tolerance, {"difference": difference, **numbers}, tolerance, says)
