"""cutaway labs list
cutaway labs run [IDS…|all] [--quick] [--model SPEC] [--out DIR]

One measured experiment per topic of the document: what it claims, what we measured, the verdict.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Examine"
app = typer.Typer(help="Run the labs: one measured experiment per topic.", no_args_is_help=True)


@app.command("list")
def list_labs(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    chinese: Annotated[bool, typer.Option("--zh", help="中文")] = False,
) -> None:
    """List the labs with their claims."""
    from json import dumps

    from cutaway.labs.runner import find_lab, known_labs

    found = [find_lab(id) for id in known_labs()]
    if json:
        rows = [
            {
                "id": lab.id,
                "title": {"en": lab.title.en, "zh": lab.title.zh},
                "claim": {"en": lab.claim.en, "zh": lab.claim.zh},
                "expected": lab.expected,
            }
            for lab in found
        ]
        typer.echo(dumps(rows, ensure_ascii=False, indent=1))
        return
    for lab in found:
        title, claim = (lab.title.zh, lab.claim.zh) if chinese else (lab.title.en, lab.claim.en)
        typer.echo(f"{lab.id:02d}  {title}\n    {claim}")


@app.command("run")
def run(
    ids: Annotated[list[str] | None, typer.Argument(help="Numbers of labs, or all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, at most 20 s each.")] = False,
    model: Annotated[str | None, typer.Option(help="Your own checkpoint, where a lab takes one.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and the plots.")] = Path("labs-out"),
) -> None:
    """Measure, compute verdicts, write report.json and plots."""
    from cutaway.core.errors import ConfigError
    from cutaway.labs.runner import known_labs, run_labs

    if not ids or ids == ["all"]:
        numbers = list(known_labs())
    elif all(id.isdigit() for id in ids):
        numbers = [int(id) for id in ids]
    else:
        raise ConfigError(
            "labs are named by number", field="labs", value=" ".join(ids), hint="for example 5 12, or all"
        )
    records = run_labs(numbers, out, quick=quick, model=model, say=typer.echo)
    surprises = [record["id"] for record in records if record["verdict"] != record["expected"]]
    typer.echo(f"{len(records)} labs → {out / 'report.json'}; look at them with: cutaway serve MODEL --labs {out}")
    if surprises:
        typer.echo(f"not the verdict expected: {surprises}", err=True)
        raise typer.Exit(1)
