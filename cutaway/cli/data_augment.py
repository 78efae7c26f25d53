"""cutaway data augment FILES… --out FILE.jsonl [--json] method=dropout|swap|synonyms|counterfactual [share=0.1 table=FILE …]
cutaway data augment FILES… --out FILE.jsonl [--json] method=back-translation --there MODEL --back MODEL

Make more of what should be learned.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from cutaway.cli.data import Encoding, Files, Json, Out, Settings, files_and_settings


def main(
    files: Files,
    out: Out,
    there: Annotated[
        str | None, typer.Option(help="Back-translation: an encoder-decoder into another language.")
    ] = None,
    back: Annotated[str | None, typer.Option(help="Back-translation: the one that translates back.")] = None,
    config: Settings = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Write the records and changed copies of them.

    Settings: method=dropout|swap|synonyms|counterfactual|back-translation, by=record|paragraph|line, share, copies, keep, seed,
    table (a file of synonyms or pairs), own (our pairs beside yours).
    """
    from json import dumps

    from cutaway.core.config import save_config
    from cutaway.core.progress import step
    from cutaway.data.augment import AugmentConfig, augment
    from cutaway.data.clean import write_jsonl
    from cutaway.data.read import read_records

    paths, settings = files_and_settings(files, AugmentConfig, config)
    translations = [_translation(model) for model in (there, back) if model]
    records = augment(read_records(paths, encoding), settings, *translations)
    with step(f"augmenting by {settings.method}"):
        written = write_jsonl(records, out)
    save_config(settings, out.with_suffix(".yaml"))
    if json:
        typer.echo(dumps({"out": str(out), "written": written}))
        return
    typer.echo(f"{written:,} records → {out}")
    typer.echo(f"next: cutaway data audit {out}")


def _translation(model: str) -> "Callable[[list[str]], list[str]]":
    from cutaway.evaluate.translation import TranslateConfig, translate_texts
    from cutaway.models.load import load

    loaded = load(model)
    return lambda texts: translate_texts(loaded, texts, TranslateConfig())
