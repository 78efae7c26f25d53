"""cutaway pretrain [--config FILE.yaml] [data.path=… out=… model.hidden_size=… optim.lr=… loop.steps=…]

Train a model from nothing, or go on from a checkpoint (start=…), on your text. The same command goes on after an interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=book.txt out=runs/first.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train a model on text; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.pretrain import PretrainConfig, pretrain

    resolved = load_config(PretrainConfig, config, settings or [])
    report = pretrain(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss = report["held_out_loss"]["held_out"]
    typer.echo(f"{report['parameters']['all']:,} parameters, {report['steps']} steps, {report['tokens']:,} tokens")
    typer.echo(f"held-out loss {loss['before']:.4f} → {loss['after']:.4f} nats per token (step {report['best_step']})")
    model = resolved.out / "model"
    follows = {"causal": f'generate {model} "…"', "spans": f"seq2seq start={model} data.source=… data.target=… out=…"}
    typer.echo("next: cutaway " + follows.get(resolved.objective, f"classify start={model} data.path=… out=…"))
