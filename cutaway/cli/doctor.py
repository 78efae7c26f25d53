"""cutaway doctor [MODEL] [--data FILE] [--json]

Check on your own model and data what must be equal: packed and unpacked, resumed and uninterrupted, cached and uncached …
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Examine"


def main(
    model: Annotated[
        str | None, typer.Argument(help="A folder, a .gguf file or a packaged model (the default).")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="What you train on; by default a few built-in records.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that what must be equal is; exit code 1 when something is not."""
    from json import dumps
    from time import monotonic

    from cutaway.core.progress import step
    from cutaway.data.read import find_files
    from cutaway.evaluate.invariants import examine
    from cutaway.models.load import load
    from cutaway.models.packaged import CHAT_MODEL

    started = monotonic()
    if data is not None:
        find_files(data)
    with step("loading the model"):
        loaded = load(model or CHAT_MODEL, dtype="float32", device=device)
    with step("examining"):
        checks = [check.as_dict() for check in examine(loaded, data)]
    failed = [check["name"] for check in checks if not check["holds"]]
    report = {
        "model": loaded.name,
        "data": str(data) if data else None,
        "holds": not failed,
        "checks": checks,
        "seconds": round(monotonic() - started, 1),
    }
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
    else:
        _print(report)
    raise typer.Exit(1 if failed else 0)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "invariant", "difference", "allowed", "compared", title=f"{report['model']}, float32")
    for check in report["checks"]:
        gap = check["numbers"].get("difference")
        table.add_row(
            Text("✓", "green") if check["holds"] else Text("✗", "red bold"),
            Text(check["name"]),
            "" if gap is None else f"{gap:.2g}",
            f"{check['tolerance']:.2g}" if check["tolerance"] else "none",
            Text(check["says"]),
        )
    console = Console()
    console.print(table)
    for check in report["checks"]:
        if not check["holds"]:
            console.print(Text(f"{check['name']}: {check['numbers']}", "red"))
        for span in check["numbers"].get("mask", ()):
            console.print(Text(span["text"], "black on green" if span["learned"] else "dim"), end="")
    console.print(Text("\nmarked: what is learned; dim: what is only read"))
