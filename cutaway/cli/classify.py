"""cutaway classify [--config FILE.yaml] [data.path=… out=… start=minilm train_encoder=false loop.epochs=3]

Teach an encoder labels: of texts, of pairs of texts, or of words; a ViT (start=FOLDER, or start=null model.model_type=vit) those
of images, {"image": "7.png", "label": 7}; a Whisper (model.model_type=whisper) those of sounds, {"audio": "7.wav", "label": 7}.
The same command goes on after an interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=reviews.jsonl out=runs/tone."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a classifier on labelled texts, images or sounds; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.classify import ClassifyConfig, classify

    resolved = load_config(ClassifyConfig, config, settings or [])
    report = classify(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss, scores = report["held_out_loss"]["held_out"], report["scores"]
    typer.echo("labels: " + ", ".join(f"{name} ({count:,})" for name, count in report["labels"].items()))
    for why, count in report["skipped"]["counts"].items():
        typer.echo(f"{count:,} rows {why}")
    typer.echo(f"held-out loss {loss['before']:.4f} → {loss['after']:.4f} nats per label (step {report['best_step']})")
    typer.echo(
        f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f} on {scores['items']:,} held-out labels"
    )
    typer.echo(f"the model is in {resolved.out / 'model'}")
