"""cutaway bench MODEL [--text FILE] [--json] [--config FILE.yaml] [requests=[1,16] prompt=512 reply=64 …]

Measure a model on this machine: time to the first token and between tokens, tokens per second, memory, and what a number format
costs in quality.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Examine"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="For example requests=[1,16] dtypes=[stored,float32]."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="To tell the quality of a format; by default the retention text.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure latency, throughput, memory and quality of a model, per number format."""
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    from cutaway.core.config import load_config
    from cutaway.core.progress import Progress
    from cutaway.data.read import find_files
    from cutaway.evaluate.speed import SpeedConfig, measure, rows
    from cutaway.models.load import find
    from cutaway.train.finetune import RETENTION

    resolved = load_config(SpeedConfig, config, settings or [])
    find(model)
    find_files(text or RETENTION)
    found = []
    with Progress("measuring", unit="setting") as progress:
        for speed in measure(model, resolved, text or RETENTION):
            found.append(speed)
            progress.advance(1)
    if json:
        typer.echo(dumps({"model": model, **resolved.model_dump(), "rows": rows(found)}))
        return
    table = Table(
        "format", "at once", "first token", "slowest", "between", "prefill/s", "decode/s", "all/s", "memory", "loss"
    )
    for one in found:
        table.add_row(
            one.dtype,
            str(one.requests),
            f"{one.first_s:.3f} s",
            f"{one.slowest_first_s:.3f} s",
            f"{1e3 * one.between_s:.1f} ms",
            f"{one.prefill:,.0f}",
            f"{one.decode:,.0f}",
            f"{one.all:,.0f}",
            f"{one.memory / 1e6:,.0f} MB",
            f"{one.loss:.4f}",
        )
    Console(width=None if Console().is_terminal else 120).print(table)
    typer.echo("tokens per second; loss in nats per token of the text")
