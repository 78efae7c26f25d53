"""cutaway evaluate MODEL TEXT [--extend yarn=4] [--json] [--config FILE.yaml] [window=1024 stride=512 …]

Loss per token, perplexity and bits per byte of a model on a text or on the replies of conversations.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Examine"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    text: Annotated[str, typer.Argument(help="A file, folder or pattern: text, JSONL, JSON or Parquet.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example window=1024 stride=512 rows=2.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    encoding: Annotated[str, typer.Option(help="How the text is written.")] = "utf-8",
    extend: Annotated[
        str | None, typer.Option(help="A longer context than the trained one: yarn=4, ntk=2, sinks=8 …")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how well a model predicts a text."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.data.examples import Skipped, tokenize
    from cutaway.data.read import find_files, read_records
    from cutaway.evaluate.perplexity import PerplexityConfig, perplexity
    from cutaway.models.load import load

    resolved = load_config(PerplexityConfig, config, settings or [])
    files = find_files(text)
    loaded = load(model, dtype=dtype, device=device, extend=extend)
    skipped = Skipped()
    examples = tokenize(read_records(files, encoding), loaded.tokenizer, skipped)
    found = perplexity(loaded.model, loaded.tokenizer, examples, resolved)
    numbers = {
        "loss": found.loss,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "tokens": found.tokens,
        "bytes": found.bytes,
    }
    if json:
        typer.echo(
            dumps({"model": loaded.name, "text": text, **numbers, **resolved.model_dump(), "skipped": skipped.counts})
        )
        return
    typer.echo(
        f"{found.loss:.4f} nats per token, perplexity {found.perplexity:.2f}, {found.bits_per_byte:.4f} bits per byte "
        f"({found.tokens} tokens, {found.bytes} bytes)"
    )
    if skipped.counts:
        typer.echo(f"left out: {skipped}")
