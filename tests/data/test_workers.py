"""Whoever works, the same comes of it, in the same order; and what goes wrong is named."""

import json
import os
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, CutawayError, DataError, ResourceError
from cutaway.data.read import Record
from cutaway.data.workers import WorkersConfig, in_order

RECORDS = [Record(f"text {number % 400}", f"a:{number}") for number in range(1000)]


def texts(mark: str, group: list[Record]) -> list[str]:
    return [mark + record.value for record in group]


def until_the_last(mark: str, group: list[Record]) -> list[str]:
    if group[-1] == RECORDS[-1]:
        raise DataError("is bad", field=group[0].where)
    return texts(mark, group)


def die(group: list[Record]) -> None:
    os._exit(1)


def workers(*settings: str) -> WorkersConfig:
    return load_config(WorkersConfig, None, settings)


def flat(groups) -> list:
    return [one for group in groups for one in group]


def test_groups_are_small_and_in_order():
    groups = list(in_order(partial(texts, "a "), RECORDS, workers()))
    assert flat(groups) == texts("a ", RECORDS)
    assert max(map(len, groups)) == 256
    books = [Record("x" * 3_000_000, "b")] * 3
    assert list(map(len, in_order(list, books, workers()))) == [2, 1]


def test_one_process_reads_no_further_than_it_works():
    source = iter(RECORDS)
    next(in_order(list, source, workers()))
    assert next(source).where == "a:256"


def test_processes_keep_the_order_and_raise_what_was_raised():
    done = []
    with pytest.raises(DataError, match="a:768: is bad"):
        for group in in_order(partial(until_the_last, "a "), RECORDS, workers("count=2")):
            done += group
    assert done == texts("a ", RECORDS[:768])
    with pytest.raises(ResourceError, match=r"workers\.count=1: a worker died"):
        list(in_order(die, RECORDS[:3], workers("count=1")))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["kind=dask"], "kind"),
        (["count=0"], "count"),
        (["kind=local", "address=auto"], "workers.kind=ray"),
        (["cuont=2"], "count"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(ConfigError, match=says):
        workers(*settings)


@pytest.fixture
def rows(tmp_path):
    """Records of which some repeat, some are empty and some are mended."""
    path = tmp_path / "rows.jsonl"
    lines = [f"caf\u00c3\u00a9 number {number % 400} of the town" * (number % 7 > 0) for number in range(700)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


def clean(rows, out, *settings) -> tuple[bytes, dict]:
    done = CliRunner().invoke(app, ["data", "clean", str(rows), "--out", str(out), "--json", *settings])
    if isinstance(done.exception, CutawayError):
        raise done.exception
    return out.read_bytes(), {**json.loads(done.stdout.splitlines()[-1]), "out": None}


def encoded(rows, folder, *settings) -> dict[str, bytes]:
    """The files of the store that the command makes."""
    words = ["encode", str(rows), "--json", f"tokenizer={rows.parent / 'tokenizer'}", "seq_len=32", f"cache={folder}"]
    done = CliRunner().invoke(app, ["data", *words, *settings])
    if isinstance(done.exception, CutawayError):
        raise done.exception
    (made,) = folder.iterdir()
    files = {file.name: file.read_bytes() for file in made.iterdir()}
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["skipped"] == [{"empty": 100}]
    assert said["tokens"] == len(np.load(made / "ids.npy"))
    return files


def test_what_processes_encoded_is_the_same_and_a_run_finds_it(rows, tmp_path, tokenizer, monkeypatch):
    from cutaway.data import store  # here: workers import this file, and need no torch
    from cutaway.data.corpus import DataConfig, open_corpus
    from cutaway.text.load import load_tokenizer

    tokenizer.save(tmp_path / "tokenizer")
    alone = encoded(rows, tmp_path / "alone")
    assert encoded(rows, tmp_path / "two", "workers.count=1") == alone
    monkeypatch.setattr(store, "_write", None)
    config = DataConfig(path=rows, seq_len=32, cache=tmp_path / "two")
    assert open_corpus(config, load_tokenizer(tmp_path / "tokenizer"), 0).train.store.tokens > 0
    with pytest.raises(ConfigError, match="tokenizer: is required"):
        CliRunner().invoke(app, ["data", "encode", str(rows)], catch_exceptions=False)


def test_without_ray_it_says_so(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ResourceError, match=r"workers\.kind='ray': needs the package ray \(pip install"):
        clean(rows, tmp_path / "out.jsonl", "workers=ray")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of another library, which starts servers
def test_ray_gives_the_same_files_bit_for_bit(rows, tmp_path, tokenizer):
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    tokenizer.save(tmp_path / "tokenizer")
    alone, store_alone = clean(rows, tmp_path / "alone.jsonl"), encoded(rows, tmp_path / "alone")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        assert clean(rows, tmp_path / "ray.jsonl", "workers=ray") == alone
        assert encoded(rows, tmp_path / "ray", "workers=ray") == store_alone
        with pytest.raises(DataError, match="a:768: is bad"):
            list(in_order(partial(until_the_last, "a "), RECORDS, workers("kind=ray")))
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere:port"])
def test_a_cluster_that_is_not_there_is_named(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(ResourceError, match=rf"workers\.address='{address}': no Ray cluster answers"):
        list(in_order(list, RECORDS, workers(f"address={address}")))
