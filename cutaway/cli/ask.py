"""cutaway ask QUESTION [--index FOLDER] [--model SPEC] [--json]

Answer a question from the indexed documents, with citations.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    index: Annotated[Path, typer.Option(help="The folder that cutaway index made.")] = Path("index"),
    model: Annotated[str, typer.Option(help="The chat model: a folder, a .gguf file or a packaged name.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Answer from the documents, and say which passage each sentence rests on."""
    from json import dumps

    from cutaway.core.errors import ConfigError
    from cutaway.models.load import load
    from cutaway.models.packaged import CHAT_MODEL
    from cutaway.retrieve.answer import answer, generator
    from cutaway.retrieve.index import Index

    if not (index / "index.json").exists():
        raise ConfigError("holds no index", field="index", value=str(index), hint="make one: cutaway index DIR --out …")
    loaded = load(model or CHAT_MODEL)

    result = answer(question, Index.open(index), generator(loaded))
    if json:
        typer.echo(dumps(result.json(), ensure_ascii=False))
        return
    typer.echo(result.cited)
    for number in result.citations:
        hit = result.passages[number - 1]
        place = f", page {hit.page}" if hit.page else f", {hit.heading}" if hit.heading else ""
        typer.echo(f"  [{number}] {hit.source}{place}")
    if result.answerable and not result.grounded:
        typer.echo("Sentences without a number are not supported by any passage.", err=True)
