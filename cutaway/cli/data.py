"""cutaway data audit FILES… [--against EVAL]… [--groups GROUPS.json] [--out REPORT.json] [--json] [by=paragraph …]
cutaway data clean FILES… --out FILE.jsonl [--json] [languages=[en,zh] gopher={} duplicates.threshold=0.7 workers=ray …]
cutaway data augment FILES… --out FILE.jsonl [--json] method=dropout|swap|synonyms|counterfactual [share=0.1 table=FILE …]
cutaway data augment FILES… --out FILE.jsonl [--json] method=back-translation --there MODEL --back MODEL
cutaway data encode FILES… tokenizer=DIR [--json] [seq_len=1024 held_out=FILE workers.address=auto …]

See what is in your data, drop what should not be learned, make more of what should, and encode it before a run. Files are text,
JSONL, JSON and Parquet, folders and patterns.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from cutaway.core.config import Config

    C = TypeVar("C", bound=Config)

PANEL = "Train"
app = typer.Typer(help="Audit, clean, augment and encode your data.", no_args_is_help=True)

Files = Annotated[
    list[str], typer.Argument(metavar="FILES… [KEY=VALUE]…", help="Files, folders and patterns, then settings.")
]
Out = Annotated[Path, typer.Option(help="The JSONL file to write; it is there whole or not at all.")]
Settings = Annotated[Path | None, typer.Option("--config", help="Settings from a YAML file.")]
Encoding = Annotated[str, typer.Option(help="How text files are encoded.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("audit")
def audit(
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
    from cutaway.data.audit import AuditConfig, draw_lengths
    from cutaway.data.audit import audit as report_on
    from cutaway.data.read import read_records

    paths, settings = _arguments(files, AuditConfig, config)
    drawing = plot or (out.with_suffix(".png") if out else None)
    _check_endings(out, drawing)
    lexicon = read_lexicon(groups) if groups else None
    items = read_records(against, encoding) if against else None
    with step("auditing"):
        report = report_on(read_records(paths, encoding), settings, lexicon, items)
    if out:
        write_text(out, dumps(report, ensure_ascii=False, indent=1) + "\n")
    if drawing:
        with new_file(drawing) as temporary:
            draw_lengths(report).savefig(temporary, format=drawing.suffix[1:])
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    _print_audit(report)
    typer.echo(f"next: cutaway data clean {' '.join(paths)} by={settings.by} --out cleaned.jsonl")


@app.command("clean")
def clean(files: Files, out: Out, config: Settings = None, encoding: Encoding = "utf-8", json: Json = False) -> None:
    """Repair what can be, drop what should not be learned, and say why.

    Settings: by=record|paragraph|line, repair, malformed=error|drop, min_words, max_words, languages, max_broken, max_symbols,
    max_digits, gopher={} (rules for web pages; gopher.min_words …), duplicates.near|threshold|shingle (duplicates=null: kept).

    By several processes: workers.count=8; by Ray: workers=ray, or over machines: workers.address=auto. The result is the same.
    """
    from dataclasses import asdict
    from json import dumps

    from cutaway.core.config import save_config
    from cutaway.core.progress import step
    from cutaway.data.clean import CleanConfig, CleanReport, write_jsonl
    from cutaway.data.clean import clean as cleaned
    from cutaway.data.read import read_records

    paths, settings = _arguments(files, CleanConfig, config)
    report = CleanReport()
    with step("cleaning"):
        write_jsonl(cleaned(read_records(paths, encoding), settings, report), out, report.dropped)
    save_config(settings, out.with_suffix(".yaml"))
    dropped = report.dropped
    if json:
        reasons = {why: {"count": count, "first": dropped.first[why]} for why, count in dropped.counts.items()}
        counts = {"out": str(out), "read": report.read, "kept": report.kept, "repaired": report.repaired}
        duplicates = [asdict(one) for one in report.duplicates]
        typer.echo(dumps({**counts, "dropped": reasons, "duplicates": duplicates}, ensure_ascii=False))
        return
    rows = sorted(dropped.counts.items(), key=lambda one: -one[1])
    _table(
        ["dropped for", "records", "share", "first"],
        [[why, f"{count:,}", f"{count / report.read:.2%}", dropped.first[why]] for why, count in rows],
    )
    typer.echo(f"{report.kept:,} of {report.read:,} records kept, {report.repaired:,} of them repaired → {out}")
    typer.echo(f"next: cutaway data audit {out}")


@app.command("augment")
def augment(
    files: Files,
    out: Out,
    there: Annotated[
        str | None, typer.Option(help="Back-translation: an encoder-decoder into another language.")
    ] = None,
    back: Annotated[str | None, typer.Option(help="Back-translation: the one that translates back.")] = None,
    config: Settings = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Write the records and changed copies of them.

    Settings: method=dropout|swap|synonyms|counterfactual|back-translation, by=record|paragraph|line, share, copies, keep, seed,
    table (a file of synonyms or pairs), own (our pairs beside yours).
    """
    from json import dumps

    from cutaway.core.config import save_config
    from cutaway.core.progress import step
    from cutaway.data.augment import AugmentConfig
    from cutaway.data.augment import augment as augmented
    from cutaway.data.clean import write_jsonl
    from cutaway.data.read import read_records

    paths, settings = _arguments(files, AugmentConfig, config)
    translations = [_translation(model) for model in (there, back) if model]
    records = augmented(read_records(paths, encoding), settings, *translations)
    with step(f"augmenting by {settings.method}"):
        written = write_jsonl(records, out)
    save_config(settings, out.with_suffix(".yaml"))
    if json:
        typer.echo(dumps({"out": str(out), "written": written}))
        return
    typer.echo(f"{written:,} records → {out}")
    typer.echo(f"next: cutaway data audit {out}")


@app.command("encode")
def encode(files: Files, config: Settings = None, json: Json = False) -> None:
    """Turn files into tokens before a run, which finds them: by several processes, or over machines.

    Settings: those of a run's data (seq_len, over_long, held_out, encoding, cache), its tokenizer, workers.kind|count|address.
    """
    from json import dumps

    from cutaway.core.progress import step
    from cutaway.data.corpus import EncodeConfig, encode_corpus
    from cutaway.text.load import load_tokenizer

    paths, settings = _arguments(files, EncodeConfig, config)
    with step("encoding"):
        stores = encode_corpus(
            settings.model_copy(update={"path": tuple(map(Path, paths))}), load_tokenizer(settings.tokenizer)
        )
    counts = {"pieces": sum(map(len, stores)), "tokens": sum(store.tokens for store in stores)}
    skipped = [store.skipped["counts"] for store in stores]
    if json:
        typer.echo(dumps({**counts, "skipped": skipped}, ensure_ascii=False))
        return
    left_out = "; ".join(f"{count:,} {why}" for one in skipped for why, count in one.items())
    typer.echo(
        f"{counts['tokens']:,} tokens in {counts['pieces']:,} pieces" + (f"; left out: {left_out}" * bool(left_out))
    )
    where = paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"
    typer.echo(
        f"next: cutaway pretrain data.path={where} data.seq_len={settings.seq_len} tokenizer={settings.tokenizer} out=…"
    )


def _translation(model: str) -> "Callable[[list[str]], list[str]]":
    from cutaway.evaluate.translation import TranslateConfig, translate_texts
    from cutaway.models.load import load

    loaded = load(model)
    return lambda texts: translate_texts(loaded, texts, TranslateConfig())


def _arguments(given: Sequence[str], cls: "type[C]", config: Path | None) -> "tuple[list[str], C]":
    """The files and the settings among the arguments."""
    from cutaway.core.config import load_config
    from cutaway.core.errors import DataError

    overrides = [one for one in given if "=" in one and not Path(one).exists()]
    paths = [one for one in given if one not in overrides]
    if not paths:
        raise DataError("name at least one file", field="files")
    return paths, load_config(cls, config, overrides)


def _check_endings(out: Path | None, drawing: Path | None) -> None:
    from cutaway.core.errors import ConfigError

    if out and out.suffix != ".json":
        raise ConfigError("the report is JSON", field="out", value=str(out), hint="name a .json file")
    if drawing and drawing.suffix not in (".png", ".svg"):
        raise ConfigError("cannot draw this kind of file", field="plot", value=str(drawing), hint=".png or .svg")


def _print_audit(report: dict[str, Any]) -> None:
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
    _table(
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
    _table(
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
        _table(
            ["item", "share", "found in", "for example"],
            [
                [hit["where"], f"{hit['share']:.0%}", ", ".join(hit["found"][:3]), hit["example"]]
                for hit in found["hits"][:listed]
            ],
        )


def _table(heads: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if rows:
        table = Table()
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        Console().print(table)
