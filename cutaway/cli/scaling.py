"""cutaway scaling RUN… [--parameters 1e9 --tokens 2e10 | --flops 1e20] [--json]

Fit a scaling law, loss = E + A / N^a + B / D^b, to finished runs (their folders) or to a JSONL file of parameters, tokens and
loss, and ask it about a larger one.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or JSONL files: parameters, tokens, loss.")],
    parameters: Annotated[float | None, typer.Option(help="Predict the loss of so many parameters …")] = None,
    tokens: Annotated[float | None, typer.Option(help="… trained on so many tokens.")] = None,
    flops: Annotated[float | None, typer.Option(help="Say how to spend so much compute.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Fit a scaling law to runs and ask it about a larger one."""
    from json import dumps

    from cutaway.core.errors import ConfigError
    from cutaway.evaluate.scaling import Law, read_runs, report

    if (parameters is None) != (tokens is None):
        name = "--tokens" if tokens is None else "--parameters"
        raise ConfigError("is needed too: a loss is one of a size and a number of tokens", field=name, value=None)
    for name, value in (("--parameters", parameters), ("--tokens", tokens), ("--flops", flops)):
        if value is not None and not value > 0:
            raise ConfigError("must be above 0", field=name, value=value)
    found = report(read_runs(runs))
    law = Law(**found["law"])
    if parameters is not None and tokens is not None:
        found["asked"] = {"parameters": parameters, "tokens": tokens, "loss": law.loss(parameters, tokens)}
    if flops is not None:
        split = law.best_split(flops)
        if split is None:
            raise ConfigError("needs runs that differ in both parameters and tokens", field="--flops", value=flops)
        found["split"] = {"flops": flops, "parameters": split[0], "tokens": split[1], "loss": law.loss(*split)}
    if json:
        typer.echo(dumps(found, ensure_ascii=False))
        return
    terms = [f"{c:.4g} / {letter}^{x:.3f}" for c, letter, x in ((law.A, "N", law.a), (law.B, "D", law.b)) if c]
    typer.echo(f"loss = {' + '.join([f'{law.E:.4g}', *terms])}   ({len(found['runs'])} runs)")
    for run in found["runs"]:
        told = f"{run['loss']:.4f}, the law {run['predicted']:.4f}"
        typer.echo(f"  {run['name']:<32} N {run['parameters']:.3g}  D {run['tokens']:.3g}  {told}")
    if held_out := found["held_out"]:
        typer.echo(
            f"without {held_out['name']} the others predict {held_out['predicted']:.4f} for it; it has {held_out['loss']:.4f}"
        )
    if asked := found.get("asked"):
        typer.echo(f"N {asked['parameters']:.3g}, D {asked['tokens']:.3g}: {asked['loss']:.4f}")
    if split := found.get("split"):
        typer.echo(
            f"{split['flops']:.3g} FLOPs: N {split['parameters']:.3g}, D {split['tokens']:.3g}, loss {split['loss']:.4f}"
        )
