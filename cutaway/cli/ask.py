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

    from cutaway.models.load import load
    from cutaway.models.packaged import CHAT_MODEL
    from cutaway.retrieve.answer import answer, generator
    from cutaway.retrieve.index import Index

    opened = Index.existing(index)
    result = answer(question, opened, generator(load(model or CHAT_MODEL)))
    typer.echo(dumps(result.json(), ensure_ascii=False) if json else result.printed())
