"""Whoever works, the same comes of it, in the same order; and what goes wrong is named."""

import json
import os
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cutaway.cli.data import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, CutawayError, DataError, ResourceError
from cutaway.data.read import Record
from cutaway.data.workers import WorkersConfig, in_order

RECORDS = [Record(f"text {number % 400}", f"a:{number}") for number in range(1000)]


def texts(mark: str, group: list[Record]) -> list[str]:
    return [mark + record.value for record in group]


def fail(group: list[Record]) -> None:
    raise DataError("is bad", field=group[0].where)


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
    assert flat(in_order(partial(texts, "a "), RECORDS, workers("count=2"))) == texts("a ", RECORDS)
    with pytest.raises(DataError, match="a:0: is bad"):
        list(in_order(fail, RECORDS[:3], workers("count=1")))
    with pytest.raises(ResourceError, match=r"workers\.count=1: a worker died"):
        list(in_order(die, RECORDS[:3], workers("count=1")))


@pytest.mark.parametrize(
    ("settings", "says"),
    [(["kind=dask"], "kind"), (["count=0"], "count"), (["address=auto"], "workers.kind=ray"), (["cuont=2"], "count")],
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
    done = CliRunner().invoke(app, ["clean", str(rows), "--out", str(out), "--json", *settings])
    if isinstance(done.exception, CutawayError):
        raise done.exception
    return out.read_bytes(), {**json.loads(done.stdout.splitlines()[-1]), "out": None}


def test_without_ray_it_says_so(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ResourceError, match=r"workers\.kind='ray': needs the package ray \(pip install"):
        clean(rows, tmp_path / "out.jsonl", "workers=ray")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of another library, which starts servers
def test_ray_gives_the_same_file_bit_for_bit(rows, tmp_path):
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    alone = clean(rows, tmp_path / "alone.jsonl")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        assert clean(rows, tmp_path / "ray.jsonl", "workers=ray") == alone
        with pytest.raises(DataError, match="a:0: is bad"):
            list(in_order(fail, RECORDS[:3], workers("kind=ray")))
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere:port"])
def test_a_cluster_that_is_not_there_is_named(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(ResourceError, match=rf"workers\.address='{address}': no Ray cluster answers"):
        list(in_order(list, RECORDS, workers("kind=ray", f"address={address}")))
