"""cutaway contrast [--config FILE.yaml] [data.path=… out=… start=minilm data.rows=64 loop.epochs=1]

Teach a sentence encoder which texts belong together, for search on your own documents; or a CLIP (start=FOLDER, or start=null
model.model_type=clip) which texts belong to images: {"image": "cat.png", "text": "a cat"}. The same command goes on after an
interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=pairs.jsonl out=runs/search."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train an encoder on texts, or images and texts, that belong together; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.contrast import ContrastRunConfig, contrast

    resolved = load_config(ContrastRunConfig, config, settings or [])
    report = contrast(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss, rows = report["held_out_loss"]["held_out"], report["rows"]
    skipped = sum(report["skipped"].get("counts", {}).values())
    typer.echo(f"{rows['train']:,} rows to learn from, {rows['held_out']:,} held out, {skipped:,} left out")
    typer.echo(f"held-out loss {loss['before']:.4f} → {loss['after']:.4f} nats per row (step {report['best_step']})")
    typer.echo(f"the encoder is in {resolved.out / 'model'}")
