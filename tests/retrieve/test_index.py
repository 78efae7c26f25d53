"""The index: what an update sees, what a kill leaves, what is refused."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cutaway.core.errors import BusyError, ConfigError, ContextLengthError, DataError, RequestError, ResourceError
from cutaway.retrieve import index as index_module
from cutaway.retrieve.answer import STOP, answer, conclude, generator, ground
from cutaway.retrieve.chunk import ChunkConfig
from cutaway.retrieve.index import Index


class Bag:
    """An encoder without a model: hashed bags of words."""

    name, width = "bag", 64

    def count(self, texts):
        return [len(text.split()) for text in texts]

    def encode(self, texts):
        vectors = torch.zeros(len(texts), self.width)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", " ").replace("?", " ").split():
                vectors[row, sum(word.encode()) % self.width] += 1
        return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "heat.md").write_text("# Heat\nCopper conducts heat well. Copper melts at 1085 degrees.\n")
    (folder / "zh.md").write_text("# 温度\n温度越高会怎样？温度越高，分布越平。温度为零时总是选最可能的词。\n")
    (folder / "it's.txt").write_text("Owls hunt at night.")
    return folder


def test_any_file_name(index: Index, docs: Path):
    (docs / os.fsdecode(b"caf\xe9.txt")).write_text("Crepes are sold until five.")
    (docs / "a\nb.txt").write_text("Waffles are sold until six.")
    assert sorted(index.update(docs).added)[:2] == ["a\nb.txt", "caf\\xe9.txt"]
    assert index.search("crepes", 1, mode="text")[0].source == "caf\\xe9.txt"
    assert index.update(docs).unchanged == 5


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.open(tmp_path / "index", Bag())


def test_updates_are_incremental(index: Index, docs: Path):
    report = index.update(docs)
    assert (sorted(report.added), report.unchanged) == (["heat.md", "it's.txt", "zh.md"], 0)
    assert index.update(docs).unchanged == 3
    (docs / "heat.md").write_text("# Heat\nSilver conducts heat best.\n")
    (docs / "it's.txt").unlink()
    (docs / "new.txt").write_text("Foxes hunt at dusk.")
    (docs / "bad.txt").write_bytes(b"a\0b")
    report = index.update(docs)
    assert (report.added, report.changed, report.deleted, report.unchanged) == (
        ["new.txt"],
        ["heat.md"],
        ["it's.txt"],
        1,
    )
    assert report.skipped == {"bad.txt": "is binary, not text"}
    assert index.sources == ["heat.md", "new.txt", "zh.md"]
    assert not any("Copper" in hit.text for hit in index.search("copper conducts heat", 10))
    again = Index.open(index.folder, Bag())
    assert [hit.id for hit in again.search("heat")] == [hit.id for hit in index.search("heat")]


def test_hits_keep_their_place(index: Index, docs: Path):
    index.update(docs)
    for mode in ("hybrid", "vector", "text"):
        hit = index.search("copper melts", 1, mode)[0]
        assert (hit.source, hit.heading, hit.page) == ("heat.md", "Heat", None)
        assert (docs / hit.source).read_text()[hit.start : hit.end] == hit.text
    assert index.passage(hit.id).text == hit.text
    assert index.passage("none") is None
    assert index.search("温度是什么", 1)[0].source == "zh.md"
    assert {hit.source for hit in index.search("copper", 5, where={"source": "zh"})} == {"zh.md"}


def test_beyond_the_limit_lancedb_searches(index: Index, docs: Path, monkeypatch: pytest.MonkeyPatch):
    index.update(docs)
    monkeypatch.setattr(index_module, "EXACT_LIMIT", 1)
    assert index.search("copper melts", 1, "vector")[0].source == "heat.md"


def test_what_is_refused(index: Index, docs: Path, tmp_path: Path):
    for wrong in (
        {"query": " "},
        {"query": "x", "k": 0},
        {"query": "x", "mode": "magic"},
        {"query": "x", "where": {"a": "b"}},
    ):
        with pytest.raises(RequestError):
            index.search(**wrong)
    with pytest.raises(DataError, match="no such file"):
        index.update(tmp_path / "none")
    (docs / "bad.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="binary"):
        index.update(docs / "bad.txt")
    with (index.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="writing"):
            index.update(docs)
    other = Bag()
    other.name = "another"
    with pytest.raises(ConfigError, match="bag"):
        Index.open(index.folder, other)
    with pytest.raises(ConfigError, match="size"):
        Index.open(index.folder, Bag(), ChunkConfig(size=99))
    with pytest.raises(ConfigError, match="no index"):
        Index.existing(docs, Bag())
    assert not (docs / "index.json").exists()
    with pytest.raises(ResourceError, match="cannot be written"):
        Index.open(docs / "heat.md", Bag())
    with pytest.raises(DataError, match="no such file"):
        Index.open(tmp_path / "second", Bag()).update(tmp_path / "none")
    with pytest.raises(ConfigError, match="no index"):
        Index.existing(tmp_path / "second", Bag())
    for damage in ("{", "[]"):
        (index.folder / "index.json").write_text(damage)
        with pytest.raises(ConfigError, match="damaged"):
            Index.existing(index.folder, Bag())


@pytest.mark.parametrize("part", ["data/*.lance", "_versions/*"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: os.truncate(file, 40)])
def test_damaged_files_are_said(index: Index, docs: Path, part: str, damage):
    index.update(docs)
    for file in index.folder.glob(f"lance/passages.lance/{part}"):
        damage(file)
    with pytest.raises(ConfigError, match=r"index=.*is damaged"):
        Index.existing(index.folder, Bag())


def test_empty_index(index: Index, tmp_path: Path):
    assert len(index) == 0
    assert index.search("anything") == []
    (tmp_path / "nothing").mkdir()
    assert index.update(tmp_path / "nothing").passages == 0


def test_kill_while_indexing(tmp_path: Path):
    docs = tmp_path / "many"
    docs.mkdir()
    for i in range(60):
        (docs / f"{i:02}.txt").write_text(f"Document {i} speaks of subject{i}.")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import time; from pathlib import Path; from test_index import Bag; from cutaway.retrieve import index as m\n"
        "m._PASSAGES_PER_COMMIT = 5; commit = m.Index._commit\n"
        "def slow(self, pending):\n"
        "    commit(self, pending); print('committed', *(s for s, _ in pending), flush=True); time.sleep(0.05)\n"
        "m.Index._commit = slow\n"
        "m.Index.open(Path(sys.argv[2]), Bag()).update(Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "index"), str(docs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        acknowledged = [process.stdout.readline().split()[1:] for _ in range(3)]
        time.sleep(0.07)
        process.send_signal(signal.SIGKILL)
    acknowledged = {source for sources in acknowledged for source in sources}
    index = Index.open(tmp_path / "index", Bag())
    assert acknowledged
    assert acknowledged <= set(index.sources)
    report = index.update(docs)
    assert len(report.added) + report.unchanged == 60
    assert report.unchanged >= len(acknowledged)
    assert len(index) == 60


def test_a_grounded_reply_ends_where_the_context_does(tiny_chat):
    generate = generator(tiny_chat(160))
    assert generate([{"role": "user", "content": "x" * 100}], "Heat melts.").startswith("Heat melts.")
    with pytest.raises(ContextLengthError, match="model='tiny': holds 160 tokens"):
        generate([{"role": "user", "content": "x" * 300}], "Heat melts.")


def test_a_reply_ends_where_it_recites_its_prompt(tiny_chat):
    generate = generator(tiny_chat(160))
    for said, stop in zip(("热。", "Heat melts. "), sorted(STOP, key=len), strict=True):
        assert generate([{"role": "user", "content": "Why?"}], f"{said}{stop}: why?") == said


def test_answers_cite_and_refuse(index: Index, docs: Path):
    index.update(docs)
    said = "Copper melts at 1085 degrees. Copper melts at 2000 degrees [7]. Bananas are yellow fruit."
    result = answer("At what temperature does copper melt? copper melts degrees", index, lambda messages, opening: said)
    assert result.answerable
    assert "[7]" not in result.text
    assert [sentence.supported for sentence in result.sentences] == [True, False, False]
    assert result.citations == [1]
    assert result.cited == "Copper melts at 1085 degrees. [1] Copper melts at 2000 degrees. Bananas are yellow fruit."
    (evidence,) = result.sentences[0].evidence
    assert (docs / evidence.source).read_text()[evidence.start : evidence.end] == "Copper melts at 1085 degrees."
    assert not result.grounded
    assert json.loads(json.dumps(result.json()))["passages"][0]["number"] == 1
    refused = answer(
        "Who won the football cup yesterday?", index, lambda messages, opening: pytest.fail("no model is asked")
    )
    assert (refused.text, refused.citations, refused.grounded) == (
        "The documents do not answer this question.",
        [],
        False,
    )
    assert answer("谁赢了足球比赛", index, lambda messages, opening: "").text == "这些文档没有回答这个问题。"
    chinese = ground("温度越高会怎样？", index)
    assert chinese.opening == "温度越高，分布越平。"
    assert chinese.answerable
    assert conclude("温度越高，分布越平。", chinese).citations == [1]
    assert conclude("温度越高，分\ufffd\ufffd", chinese).text == "温度越高，分"
    with pytest.raises(RequestError):
        ground(" ", index)
