"""cutaway data audit|augment|clean|encode FILES… [KEY=VALUE]…

See what is in your data, drop what should not be learned, make more of what should, and encode it before a run: `data_COMMAND.py`
each, and here what they have in common. Files are text, JSONL, JSON and Parquet, folders and patterns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from cutaway.core.config import Config

    C = TypeVar("C", bound=Config)

PANEL = "Train"
app = typer.Typer(help="Audit, clean, augment and encode your data.", no_args_is_help=True)

Files = Annotated[
    list[str], typer.Argument(metavar="FILES… [KEY=VALUE]…", help="Files, folders and patterns, then settings.")
]
Out = Annotated[Path, typer.Option(help="The JSONL file to write; it is there whole or not at all.")]
Settings = Annotated[Path | None, typer.Option("--config", help="Settings from a YAML file.")]
Encoding = Annotated[str, typer.Option(help="How text files are encoded.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def files_and_settings(given: Sequence[str], cls: "type[C]", config: Path | None) -> "tuple[list[str], C]":
    """The files and the settings among the arguments of a command that takes both."""
    from cutaway.core.config import load_config
    from cutaway.core.errors import DataError

    overrides = [one for one in given if "=" in one and not Path(one).exists()]
    paths = [one for one in given if one not in overrides]
    if not paths:
        raise DataError("name at least one file", field="files")
    return paths, load_config(cls, config, overrides)


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    """A table on the terminal; nothing, where it has no rows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if rows:
        table = Table()
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        Console().print(table)
