"""cutaway seq2seq [--config FILE.yaml] [data.source=… data.target=… out=… model.model_type=transformer loop.epochs=5]

Train an encoder-decoder on pairs: translations, summaries, questions with answers; or on rows that name a file and say what is
seen or said in it: {"image": "cat.png", "text": "a cat"} (model.model_type=vision-encoder-decoder), {"audio": "7.wav", "text":
"seven"} (start=WHISPER language=en). The same command goes on after an interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]…", help="For example data.source=train.en data.target=train.de out=runs/mt."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a model on pairs of texts, or of files and texts; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.seq2seq import Seq2SeqConfig, train_seq2seq

    resolved = load_config(Seq2SeqConfig, config, settings or [])
    report = train_seq2seq(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss = report["held_out_loss"]["held_out"]
    skipped = sum(report["skipped"]["counts"].values())
    typer.echo(f"{report['pairs']:,} pairs, {skipped:,} left out; {report['parameters']['all']:,} parameters")
    typer.echo(f"held-out loss {loss['before']:.4f} → {loss['after']:.4f} nats per token (step {report['best_step']})")
    typer.echo(f"next: cutaway translate {resolved.out / 'model'} FILE --reference FILE")
