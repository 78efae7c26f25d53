"""cutaway up [DOCS] [--model SPEC] [--adapt DATA] [--once QUESTION [--json]] [serve.port=8000 finetune.loop.steps=100 …]

The main job: model ready → documents indexed → (with --adapt) fine-tuned → evaluated → served. A step whose result is already
there is skipped; results lie under --home, by documents and model.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Use"


def main(
    documents: Annotated[
        Path | None,
        typer.Argument(metavar="[DOCS]", help="A folder of .txt, .md, .html and .pdf files; by default the guide."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="serve.max_waiting=8 finetune.loop.steps=100 …")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A folder, a .gguf file or a packaged model; by default the packaged one.")
    ] = "",
    adapt: Annotated[Path | None, typer.Option(help="Conversations or text to fine-tune on first, with LoRA.")] = None,
    once: Annotated[str | None, typer.Option(help="Answer this question and leave.")] = None,
    json: Annotated[bool, typer.Option("--json", help="With --once: print one JSON object.")] = False,
    home: Annotated[Path | None, typer.Option(help="Where results are kept; by default Cutaway's cache.")] = None,
    labs: Annotated[Path, typer.Option(help="Folder of `cutaway labs run`, shown where it exists.")] = Path("labs-out"),
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="8000 by default; 0: any free one.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="CUTAWAY_API_KEY", help="What every request must show.")] = None,
) -> None:
    """From a model and your documents to a grounded assistant, served."""
    from json import dumps, loads

    import xxhash

    from cutaway import __version__
    from cutaway.core.errors import ConfigError
    from cutaway.core.files import cache_dir, resource, write_text
    from cutaway.core.progress import step
    from cutaway.evaluate.documents import evaluate_documents
    from cutaway.infer.native_decoder import serving_dtype
    from cutaway.models.load import find, load
    from cutaway.models.packaged import CHAT_MODEL
    from cutaway.retrieve.answer import answer, generator
    from cutaway.retrieve.embed import Embedder
    from cutaway.retrieve.index import Index
    from cutaway.serve.config import read_settings

    if documents is not None and "=" in str(documents) and not documents.exists():  # only settings were given
        documents, settings = None, [str(documents), *(settings or [])]
    own: dict[str, list[str]] = {"serve": [], "finetune": []}
    for setting in settings or []:
        group, dot, rest = setting.partition(".")
        if not dot or group not in own:
            raise ConfigError("begins with serve. or finetune.", field=setting)
        if group == "finetune" and adapt is None:
            raise ConfigError("needs --adapt", field=setting)
        own[group].append(rest)
    if json and once is None:
        raise ConfigError("needs --once", field="--json")
    shown = labs if labs.is_dir() else None
    resolved = read_settings(own["serve"], host=host, port=port, labs=shown, api_key=api_key)

    documents = documents or resource("docs/topics")
    spec = model or CHAT_MODEL
    source = find(spec)
    place = (home or cache_dir()) / "up" / xxhash.xxh3_64_hexdigest(str(documents.resolve()).encode())

    embedder = Embedder()
    index = Index.open(place / "index", embedder)
    report = index.update(documents)
    for skipped, why in report.skipped.items():
        typer.echo(f"skipped {skipped}: {why}", err=True)
    if not len(index):
        raise ConfigError("hold nothing to answer from", field="documents", value=str(documents))

    if adapt is not None:
        spec = str(source := _adapt(adapt, spec, source, place, own["finetune"]))
    with step(f"loading {spec}"):
        loaded = load(spec, dtype=serving_dtype(spec))
        generate = generator(loaded)

    if once is not None:
        result = answer(once, index, generate)
        typer.echo(dumps(result.json(), ensure_ascii=False, indent=1) if json else result.printed())
        return

    evaluated = place / "evaluation.json"
    about = {"version": __version__, "model": spec, "files": _files(source), "index": sorted(index.ids)}
    key = xxhash.xxh3_64_hexdigest(dumps(about).encode())
    known: dict[str, Any] = loads(evaluated.read_text(encoding="utf-8")) if evaluated.exists() else {}
    if known.get("key") != key:
        with step("evaluating on your documents"):
            known = {"key": key, "model": spec, **evaluate_documents(index, generate)}
        write_text(evaluated, dumps(known, ensure_ascii=False, indent=1))
    typer.echo("  ".join(f"{name} {value}" for name, value in known.items() if isinstance(value, int | float)))

    from cutaway.serve.app import create_app
    from cutaway.serve.run import run

    def ready(url: str) -> None:
        typer.echo(
            f"{loaded.name}, grounded in {len(index.sources)} documents: open {url}/  (API {url}/v1; Ctrl-C stops)"
        )

    run(create_app(resolved, loaded, index, embedder), resolved, ready)


def _files(model: Path) -> list[tuple[str, int, int]]:
    """What tells a model's files from those that stood there before."""
    from cutaway.data.store import file_key

    return file_key(sorted(model.iterdir()) if model.is_dir() else [model])


def _adapt(data: Path, spec: str, source: Path, place: Path, settings: list[str]) -> Path:
    """Fine-tune on `data`, or find that it was done with the same model, data and settings; the folder of the adapted model."""
    import xxhash

    from cutaway.core.config import load_config
    from cutaway.data.read import find_files
    from cutaway.data.store import file_key
    from cutaway.train.finetune import FinetuneConfig, finetune

    key = xxhash.xxh3_64_hexdigest(repr([file_key(find_files(data)), _files(source), settings]).encode())
    out = place / "adapted" / key
    config = load_config(FinetuneConfig, None, [f"out={out}", f"data.path={data}", f"model={spec}", *settings])
    losses = finetune(config)["held_out_loss"]
    for name, loss in losses.items():
        typer.echo(f"held-out loss, {name}: {loss['before']:.3f} → {loss['after']:.3f}")
    return out / "model"
