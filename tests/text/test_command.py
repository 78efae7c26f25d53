"""`cutaway tokenizer`: train, encode, decode, inspect, and what is wrong with files."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import CutawayError, DataError

TEXTS = [
    "The cat sat on the mat. The dog saw the cat and ran. " * 20,
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 20,
]


def call(*args: object) -> str:
    result = CliRunner().invoke(app, ["tokenizer", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, and tokenisers trained on it."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "t.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for kind in ("bpe", "unigram"):
        call("train", folder / "t.txt", "--out", folder / kind, "--kind", kind, "vocab_size=400")
    return folder


def test_texts(folder):
    ids = json.loads(call("encode", folder / "bpe", "the cat 明", "--json"))
    assert json.loads(call("decode", folder / "bpe", *ids, "--json")) == "the cat 明"
    found = json.loads(call("inspect", folder / "bpe", "the cat 明", "--json"))
    assert [piece["id"] for piece in found["pieces"]] == ids
    assert found["fit"]["round_trip"]
    assert "round trip exact" in call("inspect", folder / "bpe", "the cat [bold]")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_file_is_counted(folder, kind, tmp_path):
    (tmp_path / "a.txt").write_text("the cat 龍 the", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "the"}\n{"prompt": "cat", "completion": "dog"}\n')
    [fit] = json.loads(call("inspect", folder / kind, "--file", tmp_path, "--json")).values()
    from cutaway.text.load import load_tokenizer

    tokenizer = load_tokenizer(folder / kind)
    ids = [id for text in ("the cat 龍 the", "the", "cat\ndog") for id in tokenizer.encode(text)]
    parts = 3  # of 龍, which the training text lacks
    assert (fit["tokens"], fit["distinct"]) == (len(ids), len(set(ids)))
    assert (fit["bytes"], fit["characters"], fit["words"]) == (15 + 3 + 7, 13 + 3 + 7, 4 + 1 + 2)
    assert fit["bytes_per_token"] == pytest.approx(25 / len(ids))
    newline = kind == "unigram"  # whose training text has no line end inside a line
    assert fit["byte_rate"] == pytest.approx((parts + newline) / len(ids))
    assert (fit["unknown_rate"], fit["round_trip"]) == (0, True)
    first = fit["frequent"][0]
    assert first["count"] == max(map(ids.count, ids))
    assert first["text"] == tokenizer.token_text(first["id"])
    shown = call("inspect", folder / kind, "--file", tmp_path)
    assert f"{len(ids)} tokens" in shown
    assert repr(first["text"]) in shown


def test_unknown_tokens_are_counted(tmp_path):
    (tmp_path / "t.txt").write_text("the cat saw the dog\n" * 50)
    call("train", tmp_path / "t.txt", "--out", tmp_path / "t", "--kind", "wordpiece", "vocab_size=300")
    fit = json.loads(call("inspect", tmp_path / "t", "the 龍", "--json"))["fit"]
    assert (fit["tokens"], fit["unknown_rate"], fit["round_trip"]) == (2, 0.5, False)


@pytest.mark.parametrize("args", [[], [""], ["a text", "--file", "t.txt"]])
def test_a_text_or_a_file(folder, args):
    with pytest.raises(DataError, match="give a text that is not empty"):
        call("inspect", folder / "bpe", *args)


BAD = [
    ("empty.txt", b"", "is empty"),
    ("blank.txt", b" \n\n", "is empty"),
    ("binary.txt", b"text\na\0b", r"binary \(a zero byte in line 2\)"),
    ("latin.txt", b"good\ncaf\xe9 au lait\n", "not utf-8: byte 8 in line 2.*--encoding"),
    ("broken.jsonl", b'{"text": "a"}\n{"text":', "line 2 is not JSON"),
    ("shape.jsonl", b'{"question": "a"}', "no known shape"),
    ("missing.txt", None, "no such file"),
]


@pytest.mark.parametrize("command", ["train", "inspect"])
@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[name for name, *_ in BAD])
def test_bad_files_are_named(folder, tmp_path, command, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CutawayError, match=message) as caught:
        if command == "train":
            call("train", tmp_path / name, "--out", tmp_path / "out")
        else:
            call("inspect", folder / "bpe", "--file", tmp_path / name)
    assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_encoding(folder, tmp_path):
    (tmp_path / "t.txt").write_bytes(TEXTS[1].encode("gb18030"))
    fit = json.loads(call("inspect", folder / "bpe", "--file", tmp_path / "t.txt", "--encoding", "gb18030", "--json"))[
        "fit"
    ]
    assert fit["characters"] == len(TEXTS[1])
    call("train", tmp_path / "t.txt", "--out", tmp_path / "t", "--encoding", "gb18030", "vocab_size=300")
    with pytest.raises(DataError, match="unknown encoding"):
        call("train", tmp_path / "t.txt", "--out", tmp_path / "t", "--encoding", "gb1830")


def peak_memory(code: str) -> tuple[str, float]:
    """What a program of its own prints, and the MB that it needed at most, beyond those after its imports."""
    program = f"""
import resource
from pathlib import Path
from cutaway.data.shapes import Texts
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
train_tokenizer(["ab"], TrainTokenizerConfig())
before = peak()
{code}
print(peak() - before)
"""
    *output, peak = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=280
    ).stdout.splitlines()
    return "\n".join(output), float(peak)


def test_a_large_binary_file_is_refused_at_once(tmp_path):
    with (tmp_path / "zeros.txt").open("wb") as file:
        file.truncate(200_000_000)  # no disk is used
    output, peak = peak_memory(f"""
try:
    train_tokenizer(Texts({str(tmp_path / "zeros.txt")!r}), TrainTokenizerConfig())
except Exception as err:
    print(type(err).__name__, err)
""")
    assert output.startswith("DataError")
    assert "binary" in output
    assert peak < 50


@pytest.mark.slow
def test_a_large_file_is_not_held_in_memory(tmp_path):
    """100 MB without a line end, which Python would hold in 150."""
    with (tmp_path / "large.txt").open("w") as file:
        for i in range(54):
            file.writelines(
                f"the cat {(i * 20_000 + j) % 99_991} saw 床前明月光 and a dog ran " * 2 for j in range(20_000)
            )
    assert (tmp_path / "large.txt").stat().st_size > 100_000_000
    output, peak = peak_memory(f"""
tokenizer = train_tokenizer(Texts({str(tmp_path / "large.txt")!r}), TrainTokenizerConfig(vocab_size=1000))
print(tokenizer.vocab_size)
""")
    assert output == "1000"
    assert peak < 200  # 120 for 50 MB, 160 for 200 MB
