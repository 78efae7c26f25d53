"""Runs labs: measures over seeds, computes verdicts, writes `report.json` and a plot for each.

    report = run_labs([12, 25], out=Path("labs-out"), quick=True)

The folder holds, per lab, `labNN.json`, `labNN.png` and `labNN.svg`, and `report.json` with the records of all of
them; a lab that is run again replaces its own record and leaves the others.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from cutaway import labs
from cutaway.core.errors import ConfigError
from cutaway.core.files import new_file, write_text
from cutaway.labs.contract import Bilingual, Check, Lab, Numbers, Setting, verdict

FULL_SEEDS = (0, 1, 2)
# Two-sided 95 % points of Student's t for 1, 2, 3, … degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def known_labs() -> dict[int, str]:
    """Number to module name of every lab; the file system is the registry."""
    names = [found.name for found in iter_modules(labs.__path__) if found.name.startswith("lab")]
    return {int(name[3:5]): f"cutaway.labs.{name}" for name in sorted(names)}


def find_lab(id: int) -> Lab:
    """The lab of topic `id`."""
    known = known_labs()
    if id not in known:
        raise ConfigError("no such lab", field="labs", value=id, hint="known: " + ", ".join(map(str, known)))
    return import_module(known[id]).LAB


def run_labs(
    ids: Iterable[int],
    out: Path,
    *,
    quick: bool = True,
    seeds: Sequence[int] | None = None,
    model: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Run the labs `ids` and write their records under `out`.

    Args:
        quick: one seed and at most 20 s each; otherwise at least three seeds, with confidence intervals.
        seeds: instead of the usual ones.
        model: a user's checkpoint for the labs that take one.
        say: gets one line per lab as it ends.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = out / "report.json"
    records = {record["id"]: record for record in json.loads(report.read_text())} if report.exists() else {}
    done = []
    for lab in [find_lab(id) for id in ids]:
        record = run_lab(lab, out, seeds=tuple(seeds or ((0,) if quick else FULL_SEEDS)), quick=quick, model=model)
        records[lab.id] = record
        done.append(record)
        write_text(report, _json([records[id] for id in sorted(records)]))
        say(f"lab {lab.id:02d}  {record['verdict']:<9}  {record['seconds']:5.1f} s  {lab.title.en}")
    return done


def run_lab(lab: Lab, out: Path, *, seeds: tuple[int, ...], quick: bool, model: str | None) -> dict[str, Any]:
    """Measure one lab on every seed; the verdict is computed on the mean, and how many seeds agree is recorded."""
    started = time.monotonic()
    runs = [lab.measure(Setting(seed=seed, quick=quick, model=model if lab.takes_model else None)) for seed in seeds]
    numbers = {name: _mean([run[name] for run in runs]) for name in runs[0]}
    decided, answers = verdict(lab.checks, numbers)
    record = {
        "id": lab.id,
        "title": _both(lab.title),
        "claim": _both(lab.claim),
        "fixed": _both(lab.fixed),
        "verdict": decided,
        "expected": lab.expected,
        "checks": [_check(check, answers[check.name]) for check in lab.checks],
        "conclusion": _both(conclusion(lab, answers)),
        "numbers": numbers,
        "confidence_95": {name: _half_width([run[name] for run in runs]) for name in runs[0]} if len(seeds) > 1 else {},
        "seeds": list(seeds),
        "seeds_agreeing": sum(verdict(lab.checks, run)[0] == decided for run in runs),
        "quick": quick,
        "model": model if lab.takes_model else None,
        "seconds": round(time.monotonic() - started, 2),
        "versions": {"cutaway": version("cutaway"), "torch": version("torch"), "python": platform.python_version()},
        "plots": [f"lab{lab.id:02d}.png", f"lab{lab.id:02d}.svg"],
    }
    _save_plots(lab, numbers, out)
    write_text(out / f"lab{lab.id:02d}.json", _json(record))
    return record


def conclusion(lab: Lab, answers: dict[str, bool]) -> Bilingual:
    """What the checks found, in sentences: those of the claim first, then the limits that hold."""
    told = [check for check in lab.checks if check.kind == "claim" or answers[check.name]]
    held = {True: ("Holds", "成立"), False: ("Does not hold", "不成立")}
    said = [(held[answers[check.name]], check) for check in sorted(told, key=lambda check: check.kind)]
    limit = ("Limit", "限制")
    lines = [(limit if check.kind == "limit" else words, check.says) for words, check in said]
    return Bilingual(
        " ".join(f"{words[0]}: {says.en.rstrip('.')}." for words, says in lines),
        "".join(f"{words[1]}：{says.zh.rstrip('。')}。" for words, says in lines),
    )


def _save_plots(lab: Lab, numbers: Numbers, out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context(
        {"svg.hashsalt": "cutaway", "figure.dpi": 120, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = lab.draw(numbers)
        for ending in ("png", "svg"):
            with new_file(out / f"lab{lab.id:02d}.{ending}") as temporary:
                figure.savefig(
                    temporary, format=ending, bbox_inches="tight", metadata={"Date": None} if ending == "svg" else None
                )
        pyplot.close(figure)


def _mean(values: list[Any]) -> Any:
    """Mean over seeds, element by element; what every seed gave stays as it is (sizes, labels), and a switch goes with most."""
    first = values[0]
    if isinstance(first, str) or all(value == first for value in values):
        return first
    if isinstance(first, bool):
        return sum(values) * 2 > len(values)
    if isinstance(first, list | tuple):
        return [_mean(list(column)) for column in zip(*values, strict=True)]
    return sum(values) / len(values)


def _half_width(values: list[Any]) -> Any:
    """Half the 95 % confidence interval of the mean (Student's t), element by element; None for what is no number."""
    first = values[0]
    if isinstance(first, list | tuple):
        return [_half_width(list(column)) for column in zip(*values, strict=True)]
    if isinstance(first, str | bool):
        return None
    n, mean = len(values), sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return _T95[min(n - 1, len(_T95)) - 1] * deviation / math.sqrt(n)


def _both(text: Bilingual) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _check(check: Check, answer: bool) -> dict[str, Any]:
    return {"name": check.name, "kind": check.kind, "says": _both(check.says), "holds": answer}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
