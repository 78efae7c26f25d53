"""cutaway data encode FILES… tokenizer=DIR [--json] [seq_len=1024 held_out=FILE workers.address=auto …]

Encode your data before a run.
"""

from pathlib import Path

import typer

from cutaway.cli.data import Files, Json, Settings, files_and_settings


def main(files: Files, config: Settings = None, json: Json = False) -> None:
    """Turn files into tokens before a run, which finds them: by several processes, or over machines.

    Settings: those of a run's data (seq_len, over_long, held_out, encoding, cache), its tokenizer, workers.kind|count|address.
    """
    from json import dumps

    from cutaway.core.progress import step
    from cutaway.data.corpus import EncodeConfig, encode_corpus
    from cutaway.text.load import load_tokenizer

    paths, settings = files_and_settings(files, EncodeConfig, config)
    with step("encoding"):
        stores = encode_corpus(
            settings.model_copy(update={"path": tuple(map(Path, paths))}), load_tokenizer(settings.tokenizer)
        )
    counts = {"pieces": sum(map(len, stores)), "tokens": sum(store.tokens for store in stores)}
    skipped = [store.skipped["counts"] for store in stores]
    if json:
        typer.echo(dumps({**counts, "skipped": skipped}, ensure_ascii=False))
        return
    left_out = "; ".join(f"{count:,} {why}" for one in skipped for why, count in one.items())
    typer.echo(
        f"{counts['tokens']:,} tokens in {counts['pieces']:,} pieces" + (f"; left out: {left_out}" * bool(left_out))
    )
    where = paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"
    typer.echo(
        f"next: cutaway pretrain data.path={where} data.seq_len={settings.seq_len} tokenizer={settings.tokenizer} out=…"
    )
