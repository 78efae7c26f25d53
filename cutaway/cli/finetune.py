"""cutaway finetune [--config FILE.yaml] [model=… data.path=… out=… adapter=lora|none lora.rank=8 loop.epochs=2]

Adapt a model to your data, with LoRA or in all its weights; what it learned and what it forgot is printed. The same command goes
on after an interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=chats.jsonl out=runs/mine."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Adapt a model to your data; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.finetune import FinetuneConfig, finetune

    resolved = load_config(FinetuneConfig, config, settings or [])
    report = finetune(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    trained, all_of_them = report["parameters"]["trained"], report["parameters"]["all"]
    typer.echo(
        f"{trained:,} of {all_of_them:,} parameters trained ({trained / all_of_them:.2%}), {report['steps']} steps"
    )
    typer.echo("loss, nats per token      before    after   change")
    for name, label in (("new", "held out, new data"), ("retention", "retention text")):
        before, after = report["held_out_loss"][name].values()
        typer.echo(f"{label:<22} {before:>9.4f} {after:>8.4f} {after - before:>+8.4f}")
    if report["adapter"] == "lora" and not resolved.merge:
        typer.echo(f"next: cutaway merge {resolved.model} {resolved.out / 'adapter'} {resolved.out / 'model'}")
    else:
        typer.echo(f"next: cutaway serve {resolved.out / 'model'}")
