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

    from cutaway.infer.native_decoder import serving_dtype
    from cutaway.models.load import load
    from cutaway.models.packaged import CHAT_MODEL
    from cutaway.retrieve.answer import answer, generator
    from cutaway.retrieve.index import Index

    opened, spec = Index.existing(index), model or CHAT_MODEL
    result = answer(question, opened, generator(load(spec, dtype=serving_dtype(spec))))
    typer.echo(dumps(result.json(), ensure_ascii=False) if json else result.printed())
