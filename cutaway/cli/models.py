"""cutaway models [FOLDER…] [--json]

List the models that are here: kind, family, size, memory at each precision, context.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Examine"


def main(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders to look in; by default runs/.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that are here."""
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    from cutaway.core.errors import DataError
    from cutaway.models.catalogue import catalogue

    for folder in folders or []:
        if not folder.is_dir():
            raise DataError("no such folder", field="folder", value=str(folder))
    found = catalogue(folders or [folder for folder in [Path("runs")] if folder.is_dir()])
    if json:
        typer.echo(dumps([entry.json() for entry in found], indent=1, ensure_ascii=False))
        return
    table = Table(
        "name", "kind", "parameters", "context", "heads", "vocabulary", "float32", "bf16", "int8", "int4", "per token"
    )
    for entry in found:
        if entry.memory is None:
            table.add_row(entry.name, f"[red]{entry.error}")
            continue
        sizes = [f"{size / 1e6:,.0f} MB" for size in entry.memory.values()]
        heads = f"{entry.layers} × {entry.heads}" + (f"/{entry.kv_heads}" if entry.kv_heads != entry.heads else "")
        cache = f"{entry.cache_per_token / 1e3:.1f} kB" if entry.cache_per_token else "-"
        kind = f"{entry.family} {entry.kind}"
        table.add_row(
            entry.name,
            kind,
            f"{entry.parameters:,}",
            f"{entry.context:,}",
            heads,
            f"{entry.vocabulary:,}",
            *sizes,
            cache,
        )
    Console(width=None if Console().is_terminal else 160).print(table)
    typer.echo("heads: layers × query heads/key-value heads; per token: the cache, in bfloat16")
