"""cutaway inspect MODEL TEXT [--position N] [--json] [--plot FILE] [temperature=0.7 …]

Open one token of a text: its probability, the alternatives before and after each filter, attention, logit lens.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Examine"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    text: Annotated[str, typer.Argument(help="Special tokens written in it are read as such.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Sampling settings, for example top_p=0.9.")
    ] = None,
    position: Annotated[int | None, typer.Option(help="Which token, from 1; by default the last.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw attention and logit lens into this file (.png, .svg).")
    ] = None,
) -> None:
    """Open one token of a text: alternatives, filters, attention, layers."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.decode.sampling import Sampling
    from cutaway.lens.token_report import token_report
    from cutaway.models.load import load

    if plot:
        _check_plot(plot)
    sampling = load_config(Sampling, None, settings or [])
    loaded = load(model)
    ids = loaded.tokenizer.encode(text, special=True)
    report = token_report(loaded, ids, len(ids) - 1 if position is None else position, sampling=sampling)
    if plot:
        from cutaway.core.files import new_file
        from cutaway.lens.drawing import draw_report

        with new_file(plot) as temporary:
            draw_report(report).savefig(temporary, format=plot.suffix[1:])
    typer.echo(dumps(report, ensure_ascii=False) if json else _table(report))


def _table(report: dict[str, Any]) -> str:
    def listed(tokens: list[dict[str, Any]]) -> str:
        return "  ".join(f"{one['text']!r} {one['probability']:.3f}" for one in tokens[:5])

    lines = [
        f"token {report['position']}: {report['token']['text']!r} (id {report['token']['id']})",
        f"probability {report['probability']:.4g}, rank {report['rank']}, entropy {report['entropy_bits']:.2f} bits",
        "",
        "after each filter (tokens kept, probability of this one, likeliest)",
    ]
    for stage in report["stages"]:
        lines.append(
            f"  {stage['name']:<20} {stage['kept']:>7}  {stage['chosen']:.4f}  {listed(stage['alternatives'])}"
        )
    lines += ["", "what each layer would have said (probability of this one, likeliest)"]
    for reading in report["logit_lens"]:
        lines.append(f"  {reading['layer']:>3}  {reading['chosen']:.4f}  {listed(reading['top'])}")
    lines += ["", "where it looked (the strongest head of each layer)"]
    for layer, heads in enumerate(report["attention"], 1):
        weight, head, place = max((w, head, s) for head, row in enumerate(heads) for s, w in enumerate(row))
        lines.append(f"  {layer:>3}  head {head:<3} {weight:.2f} on token {place} {report['tokens'][place]['text']!r}")
    return "\n".join(lines)


def _check_plot(plot: Path) -> None:
    from cutaway.core.errors import ConfigError

    if plot.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError("the ending says the format", field="--plot", value=str(plot), hint=".png, .svg or .pdf")
