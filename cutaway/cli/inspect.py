"""cutaway inspect MODEL TEXT [--position N] [--json] [--plot FILE] [temperature=0.7 …]
cutaway inspect MODEL [TEXT | --image FILE | --audio FILE] --what activations|attention|gradients|jacobian|pca|spectrum|units|…
cutaway inspect MODEL [--part image=FILE --part "text=…" | --row ROWS.jsonl:17] --what …

Open one token of a text: its probability, the alternatives before and after each filter, attention, logit lens. Or look at the
whole model on a text, an image or a sound, or on a row of them all where it reads such (cutaway omni), in one of nine ways.
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
    part: Annotated[
        list[str] | None,
        typer.Option(help="With --what: a part of a row, in order: image=FILE, text=… as for omni ask."),
    ] = None,
    row: Annotated[str | None, typer.Option(help="With --what: a row of parts in a file, FILE:N or its first.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --what: write numbers and pictures into this folder.")] = None,
) -> None:
    """Open one token of a text: alternatives, filters, attention, layers; or the model in one of nine ways."""
    others = {"--image": image, "--audio": audio, "--part": part, "--row": row}
    if what is not None:
        _refuse_together("--what", {"--position": position, "--plot": plot, "KEY=VALUE": settings or None})
        given = {name: value for name, value in {**others, "TEXT": text or None}.items() if value is not None}
        one = next(iter(given), "TEXT")
        _refuse_together(one, {name: value for name, value in given.items() if name != one})
        _show(model, one.removeprefix("--").lower(), given.get(one, ""), what, json, out)
    else:
        _refuse_together("one token: it needs --what", {"--out": out, **others})
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


def _show(model: str, kind: str, given: Any, what: str, json: bool, out: Path | None) -> None:
    from json import dumps

    from cutaway.core.errors import ConfigError, near_matches
    from cutaway.core.files import new_file, write_text
    from cutaway.data.parts import Row, find_row
    from cutaway.infer.omni import part_from_word
    from cutaway.lens.inputs import open_model, read_file, read_parts, read_text
    from cutaway.lens.views import VIEWS

    if what not in VIEWS:
        raise ConfigError("no such view", field="--what", value=what, hint=near_matches(what, VIEWS))
    loaded = open_model(model)
    x: Any
    if kind == "row":
        x = read_parts(loaded, find_row(given))
    elif kind == "part":
        x = read_parts(loaded, Row(tuple(map(part_from_word, given)), "--part"))
    else:
        x = read_text(loaded, given) if kind == "text" else read_file(loaded, kind, given)
    view = VIEWS[what](loaded, x)
    shown = {kind: given if kind == "part" else str(given)}
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
