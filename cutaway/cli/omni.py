"""cutaway omni train [--config FILE.yaml] [data.path=… out=… model.media.image_size=32 loop.epochs=3]
cutaway omni ask MODEL image=three.png audio=two.wav "text= is the sum"

Train one decoder on interleaved text, images, sounds and videos, and ask it about them.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"

app = typer.Typer(
    help="Train one decoder on interleaved text, images, sounds and videos, and ask it.", no_args_is_help=True
)


@app.command()
def train(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=rows.jsonl out=runs/omni."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train on rows of parts; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.omni import OmniRunConfig, train_omni

    resolved = load_config(OmniRunConfig, config, settings or [])
    report = train_omni(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss = report["held_out_loss"]["held_out"]
    for why, count in report["skipped"]["counts"].items():
        typer.echo(f"left out: {count:,} rows {why} (first: {report['skipped']['first'][why]})")
    typer.echo(f"{report['rows']:,} rows, {report['parameters']['all']:,} parameters, {report['steps']:,} steps")
    typer.echo(f"held-out loss {loss['before']:.4f} → {loss['after']:.4f} nats per token (step {report['best_step']})")
    for kinds, found in report["accuracy"].items():
        typer.echo(f"{kinds:<16} {found['accuracy']:.1%} of {found['rows']:,} held-out rows answered exactly")
    typer.echo(f'next: cutaway omni ask {resolved.out / "model"} image=FILE "text=…"')


@app.command()
def ask(
    model: Annotated[str, typer.Argument(help="A folder with a multimodal model.")],
    parts: Annotated[
        list[str],
        typer.Argument(metavar="PART…", help='In order: "text=…", image=FILE, audio=FILE, video=FILE,FILE,…'),
    ],
    max_tokens: Annotated[int, typer.Option(min=1, help="New tokens at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token each time.")] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Continue a row of texts, images, sounds and videos."""
    from json import dumps

    from cutaway.decode.sampling import Sampling
    from cutaway.infer.engine import Engine, EngineConfig
    from cutaway.infer.omni import part_from_word, request
    from cutaway.models.load import load

    given = [part_from_word(word) for word in parts]
    loaded = load(model)
    asked = request(loaded, given, sampling=Sampling(temperature=temperature), max_tokens=max_tokens)
    (said,) = Engine(loaded, EngineConfig(max_batch=1)).run([asked])
    result = {"positions": len(asked.prompt_ids), "text": said.text, "finish_reason": said.finish_reason}
    typer.echo(dumps(result, ensure_ascii=False) if json else said.text)
