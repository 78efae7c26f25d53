"""What is in a data set: counts, lengths, languages, duplicates, groups and their associations, evaluation items.

    report = audit(read_records("train.jsonl"), AuditConfig(), against=read_records("test.jsonl"))

Everything is counted in one pass; the texts are not kept.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.errors import DataError
from cutaway.data.associations import Associations, Lexicon, own_lexicon
from cutaway.data.contamination import Contamination, ContaminationConfig
from cutaway.data.duplicates import Duplicate, DuplicateConfig, Seen, clusters
from cutaway.data.examples import Skipped
from cutaway.data.language import language
from cutaway.data.read import Record
from cutaway.data.units import Unit, kind_of, text_of, units, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class AuditConfig(Config):
    """What is counted, and how much of it is listed."""

    by: Unit = Field("record", description="cut text files into paragraphs or lines first")
    over_long: int = Field(2000, ge=1, description="words from which a record counts as over-long")
    least: int = Field(5, ge=1, description="sentences a word must share with a group to be listed with it")
    listed: int = Field(20, ge=1, description="clusters, associations and evaluation items in the report, at most")
    duplicates: DuplicateConfig = DuplicateConfig()
    contamination: ContaminationConfig = ContaminationConfig()


def audit(
    records: Iterable[Record],
    config: AuditConfig,
    lexicon: Lexicon | None = None,
    against: Iterable[Record] | None = None,
) -> dict[str, Any]:
    """A report that JSON can hold.

    Args:
        records: the data.
        lexicon: groups and words of interest; None for Cutaway's own.
        against: evaluation items to look for in the data.

    Raises:
        DataError: the files cannot be read, or no record has a shape that can be read. Single malformed records are counted.
    """
    kinds: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    lengths: list[int] = []
    characters, held, faults = 0, 0, Skipped()
    seen = Seen(config.duplicates)
    found: list[Duplicate] = []
    associations = Associations(lexicon or own_lexicon())
    contamination = Contamination(units(against, config.by), config.contamination) if against is not None else None
    error = None
    for record in units(records, config.by):
        try:
            kind, text = kind_of(record), text_of(record)
        except DataError as err:
            error = error or err
            faults.add("malformed", record.where)
            continue
        kinds[kind] += 1
        length = len(words(text))
        lengths.append(length)
        characters += len(text)
        if not length:
            faults.add("empty", record.where)
            continue
        if length >= config.over_long:
            faults.add("over-long", record.where)
        languages[language(text)] += 1
        if duplicate := seen.add(text, record.where):
            found.append(duplicate)
        associations.add(text)
        if contamination:
            held += contamination.look(record)
    if not lengths:
        raise error or DataError("holds no record", field="data")
    named = associations.report(config.least)
    return {
        "records": len(lengths),
        "kinds": dict(kinds),
        "characters": characters,
        "lengths": _lengths(lengths),
        "faults": {why: {"count": count, "first": faults.first[why]} for why, count in faults.counts.items()},
        "languages": dict(languages.most_common()),
        "duplicates": _duplicates(found, config.listed),
        **named,
        "associations": named["associations"][: config.listed],
        "contamination": _contamination(contamination, held, config.listed),
        "settings": config.model_dump(),
    }


def draw_lengths(report: dict[str, Any]) -> "Figure":
    """How many records have how many words, on a scale of powers of two, with the median."""
    from matplotlib.figure import Figure

    bars = report["lengths"]["histogram"]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(bars)), [bar["records"] for bar in bars], width=0.9)
    names = [f"{bar['from']:,}–{bar['to']:,}" if bar["from"] < bar["to"] else f"{bar['to']}" for bar in bars]
    axes.set_xticks(range(len(bars)), names, rotation=45, ha="right")
    median, most = report["lengths"]["quantiles"]["0.5"], report["lengths"]["most"]
    axes.set(
        xlabel="words", ylabel="records", title=f"{report['records']:,} records; median {median:g}, most {most:,} words"
    )
    return figure


def _lengths(lengths: list[int]) -> dict[str, Any]:
    values = np.array(lengths)
    bins = np.bincount(np.ceil(np.log2(values + 1)).astype(int))  # bin b: 2^(b-1) up to 2^b - 1 words; bin 0: none
    return {
        "words": int(values.sum()),
        "mean": float(values.mean()),
        "least": int(values.min()),
        "most": int(values.max()),
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in QUANTILES},
        "histogram": [
            {"from": 2**b // 2, "to": max(0, 2**b - 1), "records": int(count)} for b, count in enumerate(bins.tolist())
        ],
    }


def _duplicates(found: list[Duplicate], listed: int) -> dict[str, Any]:
    groups = clusters(found)
    return {
        "exact": sum(one.exact for one in found),
        "near": sum(not one.exact for one in found),
        "clusters": [
            {"first": first, "size": 1 + len(others), "others": [asdict(one) for one in others[:listed]]}
            for first, others in list(groups.items())[:listed]
        ],
    }


def _contamination(contamination: Contamination | None, held: int, listed: int) -> dict[str, Any] | None:
    if contamination is None:
        return None
    hits = contamination.hits()
    return {
        "items": contamination.items,
        "too_short": contamination.too_short,
        "found": len(hits),
        "records": held,
        "hits": [asdict(hit) for hit in hits[:listed]],
    }
