"""cutaway convert MODEL OUT [--extend yarn=4] [--dtype float32]

Write any model that Cutaway reads (a GGUF file, a folder, a packaged model) as a Hugging Face folder.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    extend: Annotated[
        str | None, typer.Option(help="A longer context than the trained one: yarn=4, ntk=2, sinks=8 …")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Write a model as a Hugging Face folder."""
    from cutaway.core.errors import DataError
    from cutaway.core.progress import step
    from cutaway.models.huggingface import save_model
    from cutaway.models.load import load

    if out.exists():
        raise DataError("exists already", field="out", value=str(out), hint="name a new folder")
    with step("reading"):
        loaded = load(model, dtype=dtype, device="cpu", extend=extend)
    with step("writing"):
        save_model(loaded.model, loaded.tokenizer, out)
    typer.echo(f"{out}: try it with: cutaway generate {out} 'Once upon a time'")
