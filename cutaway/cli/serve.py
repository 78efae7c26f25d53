"""cutaway serve MODEL [--index FOLDER] [--labs FOLDER] [--adapter [NAME=]FOLDER] [--extend yarn=4] [--port N] [key=value …]

Serve a model over the OpenAI API, with the page at /.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example engine.max_batch=4 max_waiting=8.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Folder made by `cutaway index`: answers come with citations.")
    ] = None,
    labs: Annotated[Path | None, typer.Option(help="Folder made by `cutaway labs run`, for the gallery.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="A LoRA adapter in PEFT's format. With a name it is served beside the model, under that; may be repeated.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="8000 by default; 0: any free one.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="CUTAWAY_API_KEY", help="What every request must show.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    extend: Annotated[
        str | None, typer.Option(help="A longer context than the trained one: yarn=4, ntk=2, sinks=8 …")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16; stored: the blocks of a .gguf file.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
) -> None:
    """Serve a model over the OpenAI API, with the page at /."""
    from cutaway.core.errors import ConfigError
    from cutaway.infer.native_decoder import serving_dtype
    from cutaway.models.load import load
    from cutaway.models.packaged import SENTENCE_ENCODER, packaged_path
    from cutaway.retrieve.embed import Embedder
    from cutaway.retrieve.index import Index
    from cutaway.serve.adapters import load_adapters
    from cutaway.serve.app import create_app
    from cutaway.serve.config import read_settings
    from cutaway.serve.run import run

    resolved = read_settings(settings or [], config, host=host, port=port, labs=labs, api_key=api_key)
    if resolved.labs and not resolved.labs.is_dir():
        raise ConfigError("no such folder", field="labs", value=str(resolved.labs))
    opened = Index.existing(index) if index else None
    loaded = load(model, dtype=serving_dtype(model, dtype, device), device=device, extend=extend)
    adapters = load_adapters(loaded, adapter or [])
    embedder = Embedder() if opened is None and packaged_path(SENTENCE_ENCODER) else None

    def ready(url: str) -> None:
        key = "KEY" if resolved.api_key else "none"
        typer.echo(f"{loaded.name} on {url}  (Ctrl-C: finish what runs, then stop)")
        typer.echo(f"  page    {url}/")
        typer.echo(f'  client  openai.OpenAI(base_url="{url}/v1", api_key="{key}")')

    run(create_app(resolved, loaded, opened, embedder, adapters), resolved, ready)
