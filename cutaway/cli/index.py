"""cutaway index DIR [--out FOLDER] [--dimensions N] [--json]

Make a folder of documents searchable, or bring its index up to date: only new and changed files are read again.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    documents: Annotated[Path, typer.Argument(help="A folder of .txt, .md, .html and .pdf files, or one such file.")],
    out: Annotated[Path, typer.Option(help="The folder of the index.")] = Path("index"),
    dimensions: Annotated[
        int | None, typer.Option(help="Shorten the vectors to so many numbers (of 384), by their principal components.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Index documents; again, and only what changed is read."""
    from dataclasses import asdict
    from json import dumps

    from cutaway.retrieve.index import Index

    report = Index.open(out, dimensions=dimensions).update(documents)
    if json:
        typer.echo(dumps(asdict(report), ensure_ascii=False))
        return
    for source, why in report.skipped.items():
        typer.echo(f"skipped {source}: {why}", err=True)
    typer.echo(
        f"{len(report.added)} added, {len(report.changed)} changed, {len(report.deleted)} deleted, "
        f"{report.unchanged} unchanged, {len(report.skipped)} skipped; {report.passages} passages in {out}"
    )
    if report.neighbours_kept is not None:
        typer.echo(
            f"vectors shortened to {report.dimensions} numbers: of each passage's ten nearest, "
            f"{report.neighbours_kept:.0%} stay among them"
        )
    elif dimensions is not None and report.dimensions != dimensions:
        typer.echo(f"vectors are whole ({report.dimensions} numbers) until there are {4 * dimensions} passages")
    typer.echo(f"next: cutaway ask 'your question' --index {out}")
