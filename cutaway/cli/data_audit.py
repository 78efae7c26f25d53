"""cutaway data audit FILES… [--against EVAL]… [--groups GROUPS.json] [--out REPORT.json] [--json] [by=paragraph …]

See what is in your data, before and after it is cleaned.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.cli.data import Encoding, Files, Json, Settings, files_and_settings, print_table


def main(
    files: Files,
    against: Annotated[
        list[str] | None, typer.Option(help="Evaluation files to look for in the data; may be given again.")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help='Words to count instead of ours: {"groups": {"old": ["elderly", …], …}, "words": ["wise", …]}.'
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the report here (.json) and a plot of lengths beside it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plot here instead (.png, .svg).")] = None,
    config: Settings = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Say what is in the data: counts, lengths, languages, duplicates, groups and associations, evaluation items.

    Settings: by=record|paragraph|line, over_long, least, listed, duplicates.near|threshold|shingle, contamination.n|least|common.
    """
    from json import dumps

    from cutaway.core.files import new_file, write_text
    from cutaway.core.progress import step
    from cutaway.data.associations import read_lexicon
    from cutaway.data.audit import AuditConfig, audit, draw_lengths
    from cutaway.data.read import read_records

    paths, settings = files_and_settings(files, AuditConfig, config)
    drawing = plot or (out.with_suffix(".png") if out else None)
    _check_endings(out, drawing)
    lexicon = read_lexicon(groups) if groups else None
    items = read_records(against, encoding) if against else None
    with step("auditing"):
        report = audit(read_records(paths, encoding), settings, lexicon, items)
    if out:
        write_text(out, dumps(report, ensure_ascii=False, indent=1) + "\n")
    if drawing:
        with new_file(drawing) as temporary:
            draw_lengths(report).savefig(temporary, format=drawing.suffix[1:])
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    _print(report)
    typer.echo(f"next: cutaway data clean {' '.join(paths)} by={settings.by} --out cleaned.jsonl")


def _check_endings(out: Path | None, drawing: Path | None) -> None:
    from cutaway.core.errors import ConfigError

    if out and out.suffix != ".json":
        raise ConfigError("the report is JSON", field="out", value=str(out), hint="name a .json file")
    if drawing and drawing.suffix not in (".png", ".svg"):
        raise ConfigError("cannot draw this kind of file", field="plot", value=str(drawing), hint=".png or .svg")


def _print(report: dict[str, Any]) -> None:
    lengths, listed = report["lengths"], 5
    quantiles = ", ".join(f"{float(q):.0%} {value:,.0f}" for q, value in lengths["quantiles"].items())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report["kinds"].items())
    typer.echo(
        f"{report['records']:,} records ({kinds}), {report['characters']:,} characters, {lengths['words']:,} words"
    )
    typer.echo(f"words per record: mean {lengths['mean']:,.1f}, most {lengths['most']:,}; quantiles {quantiles}")
    for why, fault in report["faults"].items():
        typer.echo(f"{why}: {fault['count']:,} (first: {fault['first']})")
    shares = [f"{code} {count / report['records']:.1%}" for code, count in report["languages"].items()]
    typer.echo(f"languages: {', '.join(shares[: 2 * listed])}")
    duplicates = report["duplicates"]
    typer.echo(f"duplicates: {duplicates['exact']:,} exact, {duplicates['near']:,} near")
    print_table(
        ["copies", "first", "others", "similarity"],
        [
            [
                str(one["size"]),
                one["first"],
                ", ".join(other["where"] for other in one["others"][:3]),
                f"{min(other['similarity'] for other in one['others']):.2f}",
            ]
            for one in duplicates["clusters"][:listed]
        ],
    )
    groups = report["groups"]
    typer.echo("groups: " + ", ".join(f"{name} {one['mentions']:,} mentions" for name, one in groups.items()))
    print_table(
        ["word", *(f"{name}: PMI (sentences, z)" for name in groups)],
        [
            [
                one["word"],
                *(
                    f"{'–' if lean['pmi'] is None else format(lean['pmi'], '+.2f')} ({lean['together']}, {lean['z']:+.1f})"
                    for lean in one["groups"].values()
                ),
            ]
            for one in report["associations"][: 2 * listed]
        ],
    )
    if found := report["contamination"]:
        typer.echo(
            f"evaluation: {found['found']:,} of {found['items']:,} items found in {found['records']:,} records "
            f"({found['too_short']:,} too short to look for)"
        )
        print_table(
            ["item", "share", "found in", "for example"],
            [
                [hit["where"], f"{hit['share']:.0%}", ", ".join(hit["found"][:3]), hit["example"]]
                for hit in found["hits"][:listed]
            ],
        )
