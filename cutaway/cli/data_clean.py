"""cutaway data clean FILES… --out FILE.jsonl [--json] [languages=[en,zh] gopher={} duplicates.threshold=0.7 workers=ray …]

Drop what should not be learned.
"""

import typer

from cutaway.cli.data import Encoding, Files, Json, Out, Settings, files_and_settings, print_table


def main(files: Files, out: Out, config: Settings = None, encoding: Encoding = "utf-8", json: Json = False) -> None:
    """Repair what can be, drop what should not be learned, and say why.

    Settings: by=record|paragraph|line, repair, malformed=error|drop, min_words, max_words, languages, max_broken, max_symbols,
    max_digits, gopher={} (rules for web pages; gopher.min_words …), duplicates.near|threshold|shingle (duplicates=null: kept).

    By several processes: workers.count=8; by Ray: workers=ray, or over machines: workers.address=auto. The result is the same.
    """
    from dataclasses import asdict
    from json import dumps

    from cutaway.core.config import save_config
    from cutaway.core.progress import step
    from cutaway.data.clean import CleanConfig, CleanReport, clean, write_jsonl
    from cutaway.data.read import read_records

    paths, settings = files_and_settings(files, CleanConfig, config)
    report = CleanReport()
    with step("cleaning"):
        write_jsonl(clean(read_records(paths, encoding), settings, report), out, report.dropped)
    save_config(settings, out.with_suffix(".yaml"))
    dropped = report.dropped
    if json:
        reasons = {why: {"count": count, "first": dropped.first[why]} for why, count in dropped.counts.items()}
        counts = {"out": str(out), "read": report.read, "kept": report.kept, "repaired": report.repaired}
        duplicates = [asdict(one) for one in report.duplicates]
        typer.echo(dumps({**counts, "dropped": reasons, "duplicates": duplicates}, ensure_ascii=False))
        return
    rows = sorted(dropped.counts.items(), key=lambda one: -one[1])
    print_table(
        ["dropped for", "records", "share", "first"],
        [[why, f"{count:,}", f"{count / report.read:.2%}", dropped.first[why]] for why, count in rows],
    )
    typer.echo(f"{report.kept:,} of {report.read:,} records kept, {report.repaired:,} of them repaired → {out}")
    typer.echo(f"next: cutaway data audit {out}")
