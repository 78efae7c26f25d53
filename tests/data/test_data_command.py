"""`cutaway data` as people type it."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import CutawayError
from cutaway.data.read import read_records
from cutaway.models.huggingface import save_model
from cutaway.models.transformer import Transformer, TransformerConfig
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

GOOD = "The river had risen in the night, and by the morning the lower fields lay under water."
ROWS = [
    {"text": GOOD},
    {"text": "he is a doctor"},
    {"text": GOOD.upper()},
    {"text": ""},
    {"text": "caf\u00c3\u00a9 au lait"},
]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run(*arguments):
    done = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if isinstance(done.exception, CutawayError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def values(path):
    return [record.value for record in read_records(path)]


def test_clean_writes_what_is_kept_and_says_what_is_not(rows, tmp_path):
    out = tmp_path / "new" / "out.jsonl"
    said = run("clean", rows, "--out", out, "min_words=3")
    assert values(out) == [{"text": GOOD}, {"text": "he is a doctor"}, {"text": "café au lait"}]
    assert "exact duplicate" in said
    assert "rows.jsonl:4" in said
    assert "3 of 5 records kept, 1 of them repaired" in said
    assert "min_words: 3" in out.with_suffix(".yaml").read_text()


def test_clean_as_json(rows, tmp_path):
    report = json.loads(run("clean", rows, "--out", tmp_path / "out.jsonl", "--json").splitlines()[-1])
    assert (report["read"], report["kept"], report["repaired"]) == (5, 3, 1)
    assert report["dropped"] == {
        "exact duplicate": {"count": 1, "first": "rows.jsonl:3"},
        "empty": {"count": 1, "first": "rows.jsonl:4"},
    }
    assert report["duplicates"][0]["first"] == "rows.jsonl:1"


def test_the_settings_of_one_run_make_another(rows, tmp_path):
    run("clean", rows, "--out", tmp_path / "a.jsonl", "gopher={}", "gopher.min_words=10", "gopher.min_word_length=0")
    run("clean", rows, "--out", tmp_path / "b.jsonl", "--config", tmp_path / "a.yaml")
    assert values(tmp_path / "a.jsonl") == values(tmp_path / "b.jsonl") == [{"text": GOOD}]


def test_a_file_can_be_cleaned_in_place(rows):
    run("clean", rows, "--out", rows)
    assert len(values(rows)) == 3


def test_augment(rows, tmp_path):
    said = run("augment", rows, "--out", tmp_path / "out.jsonl", "method=counterfactual")
    assert values(tmp_path / "out.jsonl")[:3] == [
        {"text": GOOD},
        {"text": "he is a doctor"},
        {"text": "she is a doctor"},
    ]
    assert "6 records" in said
    (tmp_path / "synonyms.tsv").write_text("doctor\tphysician\n")
    settings = ["method=synonyms", f"table={tmp_path / 'synonyms.tsv'}", "share=0.99", "keep=false", "--json"]
    said = run("augment", rows, "--out", tmp_path / "out.jsonl", *settings)
    assert json.loads(said.splitlines()[-1])["written"] == 1
    assert values(tmp_path / "out.jsonl") == [{"text": "he is a physician"}]


def test_back_translation_by_two_models(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer([GOOD] * 9, TrainTokenizerConfig(vocab_size=280))
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=32,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    save_model(Transformer(config), tokenizer, tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": GOOD, "label": "river"}))
    models = ["--there", tmp_path / "model", "--back", tmp_path / "model"]
    run("augment", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl", "method=back-translation", *models)
    first, second = values(tmp_path / "out.jsonl")
    assert first == {"text": GOOD, "label": "river"}
    assert second["text"] != GOOD
    assert second["label"] == "river"


def test_audit(rows, tmp_path):
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": GOOD}) + "\n")
    out = tmp_path / "report.json"
    said = run("audit", rows, "--against", tmp_path / "eval.jsonl", "--out", out, "least=1")
    for line in (
        "5 records (5 document)",
        "1 exact, 0 near",
        "male 1 mentions",
        "doctor",
        "1 of 1 items found in 2 records",
    ):
        assert line in said
    report = json.loads(out.read_text())
    assert report["contamination"]["hits"][0]["found"] == ["rows.jsonl:1", "rows.jsonl:3"]
    assert out.with_suffix(".png").stat().st_size > 5000
    printed = json.loads(run("audit", rows, "--json", "--plot", tmp_path / "plot.svg").splitlines()[-1])
    assert printed["lengths"] == report["lengths"]
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_audit_with_groups_of_the_user(rows, tmp_path):
    (tmp_path / "groups.json").write_text('{"groups": {"trades": ["doctor"]}, "words": ["he"]}')
    report = json.loads(run("audit", rows, "--groups", tmp_path / "groups.json", "least=1", "--json").splitlines()[-1])
    assert report["groups"] == {"trades": {"mentions": 1, "sentences": 1}}
    assert report["associations"][0]["word"] == "he"


@pytest.mark.parametrize("command", ["audit", "clean", "augment"])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "is empty"),
        ("binary.txt", b"a\0b", "is binary"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "is not utf-8.*--encoding"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("number.jsonl", b"3\n", "text or an object"),
        ("bad.parquet", b"PAR1", "not a whole Parquet"),
    ],
)
def test_bad_files_are_named_and_nothing_is_written(tmp_path, command, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.jsonl"
    more = [] if command == "audit" else ["--out", out]
    more += ["method=dropout"] if command == "augment" else []
    with pytest.raises(CutawayError, match=says):
        run(command, tmp_path / name, *more)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["clean", "ROWS", "--out", "OUT", "min_words=99"],
            r"nothing is left.*4 too few words \(first: rows.jsonl:1\)",
        ),
        (["clean", "ROWS", "--out", "OUT", "languges=[en]"], "languges.*did you mean languages"),
        (["clean", "--out", "OUT", "min_words=2"], "at least one file"),
        (["augment", "ROWS", "--out", "OUT"], "method: is required"),
        (["augment", "ROWS", "--out", "OUT", "method=synonyms", "table=none.tsv"], "no such file"),
        (
            ["augment", "ROWS", "--out", "OUT", "method=counterfactual", "keep=false", "own=false", "table=T"],
            "nothing is left",
        ),
        (["augment", "ROWS", "--out", "OUT", "method=back-translation"], "needs two translations"),
        (["augment", "ROWS", "--out", "OUT", "method=back-translation", "--there", "none"], "model='none'"),
        (["audit", "ROWS", "by=word"], "by"),
        (["audit", "ROWS", "--out", "OUT"], "report is JSON"),
        (["audit", "ROWS", "--plot", "a.bmp"], "plot=.*png"),
        (["audit", "ROWS", "--groups", "none.json"], "no such file"),
        (["audit", "ROWS", "--against", "none.json"], "no such file"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(rows, tmp_path, arguments, says):
    (tmp_path / "t.json").write_text('{"cat": "dog"}')
    names = {"ROWS": str(rows), "OUT": str(tmp_path / "out.jsonl"), "table=T": f"table={tmp_path / 't.json'}"}
    with pytest.raises(CutawayError, match=says):
        run(*(names.get(one, one) for one in arguments))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rows.jsonl", "t.json"]


def test_the_whole_program(rows, tmp_path):
    """In a process of its own: what a script sees of a success and of a mistake."""
    command = [sys.executable, "-m", "cutaway", "data"]
    done = subprocess.run([*command, "audit", rows, "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["records"]) == (0, 5)
    done = subprocess.run([*command, "audit", tmp_path / "none"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr
