"""cutaway quantize MODEL OUT.gguf [--config FILE.yaml] [format=Q4_K embedding=Q8_0 calibration=TEXT text=TEXT …]

Write a model of the Llama family as a GGUF file of fewer bits, which Cutaway and llama.cpp load, and say what that cost.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    out: Annotated[Path, typer.Argument(help="The .gguf file to write; it must not be there yet.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example format=Q4_K calibration=book.txt.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Store a model in fewer bits, as a GGUF file."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.evaluate.quantise import QuantiseConfig, quantise_to_file

    report = quantise_to_file(model, out, load_config(QuantiseConfig, config, settings or []))
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    quality = report["quality"]
    perplexity, bits = quality["perplexity"], quality["bits_per_byte"]
    formats = ", ".join(f"{count} {name}" for name, count in report["formats"].items())
    typer.echo(f"{out}: {report['bytes'] / 1e6:.1f} MB, {report['bits_per_weight']:.2f} bits per weight ({formats})")
    for name, why in report["left"].items():
        typer.echo(f"left in float32: {name} ({why})")
    typer.echo(
        f"perplexity {perplexity['before']:.2f} → {perplexity['after']:.2f}, bits per byte {bits['before']:.4f} → "
        f"{bits['after']:.4f} ({quality['tokens']} tokens)"
    )
    typer.echo(
        f"predictions: KL divergence {quality['kl_divergence']:.4f} nats, "
        f"{quality['top_1_agreement']:.1%} of the likeliest tokens stayed"
    )
    typer.echo(f'next: cutaway generate {out} "…"')
