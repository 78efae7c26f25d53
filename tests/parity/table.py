"""All families, compared: measured in this run, on the configurations that the tests use.

python -m tests.parity --table [--json] [--out docs/parity.md]
"""

import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.parity import (
    clip,
    composed,
    decoders,
    encoders,
    omni,
    original_transformer,
    packaged,
    recurrent,
    t5,
    variational,
    vision_encoder_decoder,
    vit,
    whisper,
    whisper_classifier,
)
from tests.parity.sides import Kind, Measured, measure

KINDS: tuple[Kind, ...] = (
    decoders.KIND,
    composed.KIND,
    omni.KIND,
    encoders.KIND,
    t5.KIND,
    whisper.KIND,
    whisper_classifier.KIND,
    original_transformer.KIND,
    recurrent.KIND,
    variational.VECTORS,
    variational.SENTENCES,
    vit.KIND,
    clip.KIND,
    vision_encoder_decoder.KIND,
)
REAL: dict[str, Kind] = {
    "smollm2-135m-instruct": packaged.SMOLLM2,
    "minilm": packaged.MINILM,
}  # name of the package's model

BEGINNING = """\
# Parity

Every model family, held against an independent reference with the same weights, in float32 on a CPU. `python -m tests.parity
--table --out docs/parity.md` measured what stands here and wrote this page; the configurations are those of the tests, small,
with random weights (biases and norms too) and made to be odd: one head, groups, windows, scaled positions, heads of their own.
Where packaged real weights are installed, they are among them.

* **largest difference** of the logits (of the hidden states where there is no head) at any place of any configuration, beside the
  largest value that the reference computes there; zero where both ask the same kernels of torch for the same things;
* **generated**: tokens written greedily, with our cache and rows of different lengths in one batch, that are the reference's
  at the same place;
* **read there**: we save, the reference reads and computes again: how far that is from what it computed before. For
  transformers' formats every configuration has gone the other way first: it saved, we read;
* **read here**: what we saved comes back bit for bit.
"""


@dataclass(frozen=True)
class Line:
    """One configuration and what was found."""

    case: str
    reference: str
    found: Measured


def measure_all(kinds: Iterable[Kind], say: Callable[[str], None]) -> Iterator[Line]:
    """Compare every case of every kind."""
    for kind in kinds:
        for case in kind.cases:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = measure(kind, case, Path(folder))
            found = replace(found, seconds=time.perf_counter() - started)
            say(f"{found.family:<12} {max(found.differences.values()):.1e}  {found.seconds:5.1f} s  {case}")
            yield Line(case, kind.reference, found)


def versions() -> dict[str, str]:
    """Of what took part."""
    packages = {name: version(name) for name in ("cutaway", "torch", "transformers")}
    return {**packages, "python": platform.python_version(), "machine": platform.machine()}


def as_json(lines: list[Line]) -> dict[str, Any]:
    """The whole measurement."""
    cases = [{"case": line.case, "reference": line.reference, **asdict(line.found)} for line in lines]
    return {"versions": versions(), "seconds": sum(line.found.seconds for line in lines), "cases": cases}


def as_markdown(lines: list[Line]) -> str:
    """The page: a row for every family, and one for every configuration."""
    seconds = sum(line.found.seconds for line in lines)
    families = {line.found.family: [one for one in lines if one.found.family == line.found.family] for line in lines}
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    parts = [
        BEGINNING,
        f"{len(lines)} configurations of {len(families)} families in {seconds:.0f} s; {used}.\n",
        _table(
            (
                "family",
                "reference",
                "configurations",
                "largest difference",
                "of",
                "generated",
                "read there",
                "read here",
            ),
            [_summary(family, of_it) for family, of_it in families.items()],
        ),
        "\n## Every configuration\n",
        _table(
            ("family", "configuration", "compared: largest difference", "generated", "read there"),
            [_detail(line) for line in lines],
        ),
    ]
    return "\n".join(parts)


def _summary(family: str, lines: list[Line]) -> tuple[str, ...]:
    found = [line.found for line in lines]
    gap, size = max(
        (one.differences[name], one.sizes[name]) for one in found for name in one.differences if name == _main(one)
    )
    counted = [one.tokens for one in found if one.tokens is not None]
    tokens = tuple(map(sum, zip(*counted, strict=True))) if counted else None
    saved = [one.saved for one in found if one.saved is not None]
    return (
        f"`{family}`",
        ", ".join(dict.fromkeys(line.reference for line in lines)),
        str(len(lines)),
        f"{gap:.1e}",
        f"{size:.2g}",
        _tokens(tokens),
        f"{max(saved):.1g}" if saved else "our format",
        "all" if all(one.reloaded for one in found) else "NOT ALL",
    )


def _detail(line: Line) -> tuple[str, ...]:
    found = line.found
    compared = "; ".join(f"{name} {gap:.1e} of {found.sizes[name]:.2g}" for name, gap in found.differences.items())
    saved = "our format" if found.saved is None else f"{found.saved:.1g}"
    return f"`{found.family}`", line.case, compared, _tokens(found.tokens), saved


def _main(found: Measured) -> str:
    return "logits" if "logits" in found.differences else "hidden states"


def _tokens(tokens: tuple[int, ...] | None) -> str:
    return "writes nothing" if tokens is None else f"{tokens[1]} of {tokens[0]}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)) + "\n"
