"""cutaway translate MODEL [FILE] [--text TEXT] [--reference FILE] [--out FILE] [--json] [beam.width=5 beam.length_penalty=0.6]

Write a target for every line with an encoder-decoder, and score the result where a reference is given. One that reads sounds
(Whisper) takes a sound and writes what is said; one that reads images takes an image and writes a caption; or both take records
that name many, and are scored by the texts beside them, sounds by words and characters in error too:
{"audio": "7.wav", "text": "seven"}.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Use"


def main(
    model: Annotated[str, typer.Argument(help="A folder with an encoder-decoder and its tokeniser.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="One source per line; may be gzipped. Or a sound, an image, or records of them."),
    ] = None,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="rows=32 beam.width=1 …")] = None,
    text: Annotated[str | None, typer.Option(help="A single source instead of a file.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="One reference per line: BLEU, chrF and ROUGE are reported, of sounds WER and CER."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the targets go; by default they are printed.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Translate (or summarise, or answer) with an encoder-decoder."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.core.errors import ConfigError
    from cutaway.core.files import write_text
    from cutaway.data.described import read_described
    from cutaway.data.read import ROWS, kind, read_lines
    from cutaway.evaluate.translation import TranslateConfig, score, translate_texts
    from cutaway.infer.text_of_file import texts_of_files
    from cutaway.models.load import load

    if file is not None and "=" in str(file) and not file.exists():  # only settings were given
        file, settings = None, [str(file), *(settings or [])]
    if (file is None) == (text is None):
        raise ConfigError("give a FILE or --text, and not both", field="file")
    config = load_config(TranslateConfig, None, settings or [])
    loaded = load(model)
    medium: Any = getattr(loaded.model, "SOURCE", "text")
    sources, references = [text or ""], None
    if file is not None and medium == "text":
        sources = list(read_lines(file, "utf-8"))
    elif file is not None and kind(file) in ROWS:
        rows = read_described(file, medium, "text", "utf-8")
        sources, references = [str(row.file) for row in rows], [row.said for row in rows]
    elif file is not None:
        sources = [str(file)]
    if reference is not None:
        references = list(read_lines(reference, "utf-8"))
    if references is not None and len(references) != len(sources):
        raise ConfigError(
            f"has {len(references)} lines for {len(sources)} sources", field="reference", value=str(reference)
        )
    if file is not None and medium != "text":
        targets = texts_of_files(loaded, sources, config.beam, config.max_tokens, config.rows)
    else:
        targets = translate_texts(loaded, sources, config)
    scores = score(targets, references, spoken=medium == "audio") if references is not None else {}
    if out is not None:
        write_text(out, "".join(target.replace("\n", " ") + "\n" for target in targets))
    if json:
        typer.echo(dumps({"targets": targets, **scores}, ensure_ascii=False))
        return
    if out is None:
        for target in targets:
            typer.echo(target)
    for name, value in scores.items():
        typer.echo(f"{name} {value}", err=out is None)
