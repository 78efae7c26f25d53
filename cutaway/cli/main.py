"""cutaway COMMAND …

Each other file in this folder is one command, named after it: it has a function `main` (one command) or a typer `app`
(a group), and a `PANEL`, the heading under which the help lists it. A command of a group may be a file too: GROUP_COMMAND.
"""

import os
import pkgutil
import sys
from importlib import import_module

import typer

from cutaway import cli
from cutaway.core.errors import CutawayError
from cutaway.core.progress import QUIET

app = typer.Typer(
    name="cutaway",
    help="Build, adapt, ground, serve and examine language models, with the casing off.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from cutaway import __version__

        typer.echo(__version__)
        raise typer.Exit


for found in pkgutil.iter_modules(cli.__path__):
    if found.name != "main":
        module = import_module(f"cutaway.cli.{found.name}")
        group, _, command = found.name.partition("_")
        if command:
            import_module(f"cutaway.cli.{group}").app.command(command)(module.main)
        elif hasattr(module, "app"):
            app.add_typer(module.app, name=found.name, rich_help_panel=module.PANEL)
        else:
            app.command(name=found.name, rich_help_panel=module.PANEL)(module.main)


def main() -> None:
    """Run the command; a mistake of the user's is one line on standard error and exit code 2."""
    if QUIET:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    try:
        app()
    except CutawayError as err:
        typer.secho(f"error: {err}", fg=typer.colors.RED, err=True)
        sys.exit(err.exit_code)
    except BrokenPipeError:
        sys.exit(141)
