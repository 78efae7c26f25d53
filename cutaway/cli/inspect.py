"""cutaway inspect MODEL TEXT [--position N] [--json] [--plot FILE] [temperature=0.7 …]
cutaway inspect MODEL [TEXT | --image FILE | --audio FILE] --what activations|attention|gradients|jacobian|pca|spectrum|units|…

Open one token of a text: its probability, the alternatives before and after each filter, attention, logit lens. Or look at the
whole model on a text, an image or a sound, in one of nine ways.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Examine"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    text: Annotated[str, typer.Argument(help="Special tokens written in it are read as such.")] = "",
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Sampling settings, for example top_p=0.9.")
    ] = None,
    position: Annotated[int | None, typer.Option(help="Which token, from 1; by default the last.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw attention and logit lens into this file (.png, .svg).")
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(
            help="The model instead: activations, attention, gradients, jacobian, pca, spectrum, units, experts, neighbours."
        ),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="With --what: an image instead of a text.")] = None,
    audio: Annotated[Path | None, typer.Option(help="With --what: a sound instead of a text.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --what: write numbers and pictures into this folder.")] = None,
) -> None:
    """Open one token of a text: alternatives, filters, attention, layers; or the model in one of nine ways."""
    if what is not None:
        _refuse_together("--what", {"--position": position, "--plot": plot, "KEY=VALUE": settings or None})
        if image is not None:
            _refuse_together("--image", {"TEXT": text or None, "--audio": audio})
        if audio is not None:
            _refuse_together("--audio", {"TEXT": text or None})
        _show(model, text, {"image": image, "audio": audio}, what, json, out)
    else:
        _refuse_together("one token: it needs --what", {"--out": out, "--image": image, "--audio": audio})
        _open_token(model, text, settings or [], position, json, plot)


def _open_token(
    model: str, text: str, settings: list[str], position: int | None, json: bool, plot: Path | None
) -> None:
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.decode.sampling import Sampling
    from cutaway.lens.token_report import token_report
    from cutaway.models.load import load

    if plot:
        _check_plot(plot)
    sampling = load_config(Sampling, None, settings)
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


def _show(model: str, text: str, files: dict[str, Path | None], what: str, json: bool, out: Path | None) -> None:
    from json import dumps

    from cutaway.core.errors import ConfigError, near_matches
    from cutaway.core.files import new_file, write_text
    from cutaway.lens.inputs import open_model, read_file, read_text
    from cutaway.lens.views import VIEWS

    if what not in VIEWS:
        raise ConfigError("no such view", field="--what", value=what, hint=near_matches(what, VIEWS))
    loaded, given = open_model(model), {kind: file for kind, file in files.items() if file is not None}
    x = next((read_file(loaded, kind, file) for kind, file in given.items()), None)
    view = VIEWS[what](loaded, read_text(loaded, text) if x is None else x)
    shown = {kind: str(file) for kind, file in given.items()} or {"text": text}
    report = dumps({"model": loaded.name, **shown, "what": what, **view.data}, ensure_ascii=False)
    if out is not None:
        write_text(out / f"{what}.json", report)
        figure = view.draw()
        for ending in ("png", "svg"):
            with new_file(out / f"{what}.{ending}") as temporary:
                figure.savefig(temporary, format=ending)
    if json:
        typer.echo(report)
        return
    _print_rows(view.title, view.columns, view.rows)
    if out is not None:
        typer.echo(f"{what}.json, {what}.png and {what}.svg are in {out}")


def _print_rows(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(Text(f"{value:.4g}" if isinstance(value, float) else str(value)) for value in row))
    Console(width=None if Console().is_terminal else 120).print(table)


def _refuse_together(one: str, others: dict[str, Any]) -> None:
    """Options that say nothing where `one` is asked for."""
    from cutaway.core.errors import ConfigError

    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"does not go with {one}", field=name, value=str(value))


def _check_plot(plot: Path) -> None:
    from cutaway.core.errors import ConfigError

    if plot.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError("the ending says the format", field="--plot", value=str(plot), hint=".png, .svg or .pdf")
