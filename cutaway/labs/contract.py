"""What a lab is: a claim of the document, an experiment that measures it, and checks that turn numbers into a verdict.

A lab file defines one `LAB = Lab(...)`. It measures with the product's own components and decides nothing by itself:

    def measure(setting: Setting) -> Numbers:  ...      # a function of the seed
    def draw(numbers: Numbers) -> Figure: ...           # matplotlib, from the numbers alone

    LAB = Lab(
        id=12,
        title=Bilingual("…", "…"),
        claim=Bilingual("…", "…"),          # what the document says, in our words
        fixed=Bilingual("…", "…"),          # what the comparison keeps equal
        expected="supported",
        checks=(Claim("name", Bilingual("…", "…"), lambda n: n["a"] < n["b"]),
                Limit("name", Bilingual("…", "…"), lambda n: n["c"] > 0.1)),
        measure=measure,
        draw=draw,
    )

The verdict is computed (`verdict`): *refuted* when a check of the claim fails, else *qualified* when a check of a
stated limit holds, else *supported*. `expected` is what we found when the lab was written; the report shows both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["supported", "qualified", "refuted"]
Number = float | int | bool | str | Sequence["Number"]
Numbers = Mapping[str, Number]
"""Flat names to numbers or (nested) lists of numbers; strings label axes. Units stand in the names (`_ms`, `_bits`)."""


@dataclass(frozen=True)
class Bilingual:
    """The same text in English and Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class Setting:
    """What a lab is told.

    Args:
        seed: the only source of randomness.
        quick: end within 20 s on two CPU cores; otherwise minutes are allowed.
        model: the user's own checkpoint (a folder, a file or a packaged name), where the lab can use one.
    """

    seed: int = 0
    quick: bool = True
    model: str | None = None


@dataclass(frozen=True)
class Check:
    """A named question to the numbers. `holds` gets the numbers and answers yes or no."""

    name: str
    says: Bilingual
    holds: Callable[[Mapping], bool]
    kind: Literal["claim", "limit"]


def Claim(name: str, says: Bilingual, holds: Callable[[Mapping], bool]) -> Check:  # noqa: N802
    """Something that must hold if the document's claim is true."""
    return Check(name, says, holds, "claim")


def Limit(name: str, says: Bilingual, holds: Callable[[Mapping], bool]) -> Check:  # noqa: N802
    """Something that, when it holds, limits the claim."""
    return Check(name, says, holds, "limit")


@dataclass(frozen=True)
class Lab:
    """One topic of the document, measured. See the top of this file."""

    id: int
    title: Bilingual
    claim: Bilingual
    fixed: Bilingual
    expected: Verdict
    checks: tuple[Check, ...]
    measure: Callable[[Setting], Numbers]
    draw: Callable[[Mapping], "Figure"]
    takes_model: bool = False

    def __post_init__(self) -> None:
        assert any(check.kind == "claim" for check in self.checks), f"lab {self.id} checks nothing"
        assert len({check.name for check in self.checks}) == len(self.checks), f"lab {self.id} names a check twice"


def verdict(checks: tuple[Check, ...], numbers: Numbers) -> tuple[Verdict, dict[str, bool]]:
    """The verdict on the numbers, and the answer of every check."""
    answers = {check.name: bool(check.holds(numbers)) for check in checks}
    if not all(answers[check.name] for check in checks if check.kind == "claim"):
        return "refuted", answers
    if any(answers[check.name] for check in checks if check.kind == "limit"):
        return "qualified", answers
    return "supported", answers


def own_data(name: str) -> Path:
    """A small text that ships with the labs (`cutaway/labs/data/`)."""
    return Path(__file__).parent / "data" / name
