"""cutaway plan [--config FILE.yaml] [model.hidden_size=4096 … machine=h100 …] [--slurm FILE] [--json]

Say what a run would take before it is begun: parameters, FLOPs, memory by part, how many rows fit, time. Settings are those of
`cutaway pretrain` and `cutaway finetune` (a checkpoint: model=DIR), and the machine's:

    cutaway plan machine.name=h100 machine.devices=16 loop.parallel.tensor=2 loop.checkpointing=true tokens=1e12 \\
      data.seq_len=2048 model.vocab_size=32000 model.hidden_size=4096 model.intermediate_size=11008 model.num_hidden_layers=32 \\
      model.num_attention_heads=32 model.num_key_value_heads=32 model.max_position_embeddings=2048 \\
      model.tie_word_embeddings=false
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Train"


def main(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example model.hidden_size=768 machine=h100.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file; that of a run will do.")] = None,
    slurm: Annotated[Path | None, typer.Option(help="Write an sbatch script for the run.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what a run would take: parameters, FLOPs, memory, micro-batch, time."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.core.files import write_text
    from cutaway.train.plan import PlanConfig, plan, slurm_script

    resolved = load_config(PlanConfig, config, settings or [])
    report = plan(resolved)
    if slurm is not None:
        write_text(slurm, slurm_script(resolved, report))
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    _print(report)
    if slurm is not None:
        typer.echo(f"next: sbatch {slurm}")


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    parameters, tokens, flops, machine = (report[name] for name in ("parameters", "tokens", "flops", "machine"))
    memory, time, serving = report["memory"], report["time"], report["serving"]
    parts = ", ".join(f"{part} {size / parameters['all']:.1%}" for part, size in parameters["by_part"].items())
    again = f", {flops['computed']:.3g} with what is computed again" if flops["computed"] > flops["run"] else ""
    typer.echo(
        f"parameters  {parameters['all']:,} ({parts})\n"
        f"            {parameters['trained']:,} trained; {parameters['active']:,} active for a token\n"
        f"tokens      {tokens['run']:.3g} in the run, {tokens['step']:,} a step; "
        f"{tokens['chinchilla']:.3g} would be 20 per parameter (Hoffmann et al. 2022)\n"
        f"compute     {flops['token']:.3g} FLOPs per token, {flops['run']:.3g} in the run{again}\n"
        f"machine     {machine['devices']} × {machine['name']}: {machine['flops'] / 1e12:.4g} TFLOP/s, "
        f"{_bytes(machine['memory'])} each ({machine['source']})\n"
        f"processes   {machine['readers']} read different rows and share the weights, {machine['tensor']} share each product, "
        f"{machine['experts']} share the experts of a layer\n"
        f"time        {_duration(time['seconds'])}, {time['device_hours']:,.1f} device hours, "
        f"if {time['mfu']:.0%} of the peak is reached (mfu)"
    )
    held = ("weights", "gradients", "optimiser", "copies", "activations", "logits")
    table = Table("precision", "sharding", "checkpointing", *held, "in all", "most rows")
    table.title = f"memory of one process with {memory['rows']} rows"
    for choice in report["choices"]:
        how = (choice["precision"], choice["sharding"], "yes" if choice["checkpointing"] else "no")
        fits = "" if choice["fits"] else " !"
        sizes = (_bytes(choice[part]) for part in held)
        style = "bold" if choice == memory else None
        table.add_row(*how, *sizes, _bytes(choice["total"]) + fits, str(choice["most_rows"]), style=style)
    Console(width=None if Console().is_terminal else 140).print(table)
    if report["suggested"]:
        typer.echo("suggested   " + " ".join(f"{name}={value}" for name, value in report["suggested"].items()))
    else:
        typer.echo("suggested   not one row fits: more devices, loop.checkpointing=true, or a shorter data.seq_len")
    if serving:
        fit = ", ".join(
            f"{name} {_bytes(size)} and {serving['contexts_that_fit'][name]:,} contexts"
            for name, size in serving["weights"].items()
        )
        cache = f"cache {serving['cache_per_token'] / 1e3:.1f} kB per token in bfloat16"
        typer.echo(f"serving     on one device: weights {fit} of {serving['context']:,} tokens; {cache}")


def _bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} seconds"
