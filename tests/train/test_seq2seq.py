"""Pairs to a model to targets: every family on one path, and what is refused."""

import gzip
import json

import pytest
import torch
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.pairs import PairsConfig, collate_pairs, open_pairs, read_pairs
from cutaway.data.rows import RowStream
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model
from cutaway.text.load import load_tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.gradients import accumulate
from cutaway.train.objectives import seq2seq_lm
from cutaway.train.seq2seq import Seq2SeqConfig, train_seq2seq

ENGLISH, GERMAN = "one two three four five six seven eight", "eins zwei drei vier fünf sechs sieben acht"
NUMBERS = dict(zip(ENGLISH.split(), GERMAN.split(), strict=True))
SOURCES = [f"{a} {b} {c}" for a in NUMBERS for b in NUMBERS for c in NUMBERS]
TARGETS = [" ".join(NUMBERS[word] for word in line.split()) for line in SOURCES]


@pytest.fixture
def files(tmp_path):
    """A pair of text files, the target gzipped."""
    (tmp_path / "train.en").write_text("\n".join(SOURCES) + "\n")
    with gzip.open(tmp_path / "train.de.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(TARGETS) + "\n")
    return tmp_path / "train.en", tmp_path / "train.de.gz"


def settings(files, out, *more):
    shape = {
        "transformer": ["model.hidden_size=48", "model.intermediate_size=96", "model.num_attention_heads=2"],
        "t5": ["model.d_model=48", "model.d_ff=96", "model.num_layers=2", "model.num_heads=4", "model.d_kv=12"],
        "rnn_seq2seq": ["model.hidden_size=64", "model.num_layers=1"],
    }
    kind = next((s.split("=")[1] for s in more if s.startswith("model.model_type=")), "transformer")
    return [
        f"data.source={files[0]}",
        f"data.target={files[1]}",
        f"out={out}",
        "data.rows=32",
        "data.held_out_share=0.1",
        "train_tokenizer.vocab_size=300",
        "loop.steps=300",
        "loop.eval_every=100",
        "loop.tensorboard=false",
        "loop.precision=float32",
        "loop.compile=off",
        "optim.lr=5e-3",
        *shape.get(kind, []),
        *more,
    ]


def run(files, out, *more):
    return train_seq2seq(load_config(Seq2SeqConfig, None, settings(files, out, *more)))


@pytest.mark.parametrize("kind", ["transformer", "t5", "rnn_seq2seq"])
def test_it_learns_to_translate_by_changing_one_line(files, tmp_path, kind):
    more = ["loop.steps=600"] if kind == "t5" else []
    report = run(files, tmp_path / "run", f"model.model_type={kind}", *more)
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < 0.2 < loss["before"]
    asked = tmp_path / "asked.en"
    asked.write_text("seven one five\n\ntwo two eight\n")
    (tmp_path / "answer.de").write_text("sieben eins fünf\n\nzwei zwei acht\n")
    words = [
        "translate",
        str(tmp_path / "run" / "model"),
        str(asked),
        "--reference",
        str(tmp_path / "answer.de"),
        "--json",
    ]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert found["targets"] == ["sieben eins fünf", "", "zwei zwei acht"]
    assert found["chrf"] == found["rougeL"] == 100.0
    rules = tmp_path / "run" / "model" / "generation_config.json"
    banned = load_tokenizer(rules.parent).encode("sieben")
    rules.write_text(json.dumps({**json.loads(rules.read_text()), "suppress_tokens": banned}))
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert "sieben" not in found["targets"][0]


def test_the_command_says_what_to_do_next_and_resumes_as_done(files, tmp_path):
    words = ["seq2seq", *settings(files, tmp_path / "run", "loop.steps=5")]
    said = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert "held-out loss" in said
    assert f"next: cutaway translate {tmp_path / 'run' / 'model'}" in said
    assert CliRunner().invoke(app, words, catch_exceptions=False).stdout == said


@pytest.fixture
def corpus(files):
    tokenizer = train_tokenizer(SOURCES + TARGETS, TrainTokenizerConfig(vocab_size=300))
    config = PairsConfig(source=files[0], target=files[1], rows=8)
    return open_pairs(config, read_pairs(*files, config), tokenizer, tokenizer.bos_id, seed=1)


def test_any_split_into_micro_batches_gives_the_same_gradient(corpus):
    torch.manual_seed(0)
    model = make_model({"model_type": "transformer", "vocab_size": 300, "hidden_size": 16, "dropout": 0.0}).double()
    batch = next(corpus.train)
    grads = []
    for parts in ([(0, 8)], [(0, 3), (3, 4), (4, 8)]):
        model.zero_grad()
        accumulate(model, seq2seq_lm, [batch.rows(*part) for part in parts])
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_padding_and_neighbours_change_nothing(corpus):
    torch.manual_seed(0)
    model = make_model({"model_type": "transformer", "vocab_size": 300, "hidden_size": 16}).eval()
    pairs = sorted(corpus.train.rows[:40], key=lambda pair: len(pair.source))[::13]
    together = seq2seq_lm(model, collate_pairs(pairs, 0, 0))
    apart = [seq2seq_lm(model, collate_pairs([pair], 0, 0)) for pair in pairs]
    torch.testing.assert_close(together[0], sum(loss for loss, _, _ in apart), rtol=1e-4, atol=1e-4)
    assert together[1] == sum(n for _, n, _ in apart)


def test_a_batch(corpus):
    pair = corpus.train.rows[0]
    batch = collate_pairs([pair, corpus.train.rows[1]], 7, 5)
    assert batch.target_BT[0, 0] == 7
    assert batch.target_BT[0, 1 : len(pair.target)].tolist() == pair.target[:-1]
    assert batch.targets_BT[0][batch.targets_BT[0] != IGNORED].tolist() == pair.target
    assert batch.source_BS[0][batch.real_BS[0]].tolist() == pair.source


def test_the_stream_goes_on_from_where_it_was_left(corpus):
    first, second = corpus.train, None
    n = first.batches_per_epoch
    seen = [next(first) for _ in range(n + 3)]
    second = RowStream(first.rows, first.collate, first.size, first.seed, first.length)
    for _ in range(2):
        next(second)
    third = RowStream(first.rows, first.collate, first.size, first.seed, first.length)
    third.restore(json.loads(json.dumps(second.state())))
    for one in seen[2:]:
        assert torch.equal(one.source_BS, next(third).source_BS)
    whole = sorted(
        tuple(row) for batch in seen[:n] for row in batch.targets_BT.tolist() for row in [[t for t in row if t >= 0]]
    )
    assert whole == sorted(tuple(pair.target) for pair in first.rows)


def test_a_pair_left_out_is_named_by_its_place_in_the_files_and_a_mark_of_the_encoding_is_no_text(tmp_path):
    files = tmp_path / "train.en", tmp_path / "train.de"
    wide = len(SOURCES) - 40
    for file, texts in zip(files, (SOURCES, TARGETS), strict=True):
        lines = [text * 99 if number == wide else text for number, text in enumerate(texts, 1)]
        file.write_text("\n".join(lines), encoding="utf-8-sig")
    config = PairsConfig(source=files[0], target=files[1], seq_len=40)
    pairs = read_pairs(*files, config)
    assert pairs[0] == (SOURCES[0], TARGETS[0])
    tokenizer = train_tokenizer(SOURCES + TARGETS, TrainTokenizerConfig(vocab_size=300))
    skipped = open_pairs(config, pairs, tokenizer, tokenizer.bos_id, seed=1).skipped
    assert skipped == {"counts": {"over-long": 1}, "first": {"over-long": f"pair {wide}"}}


def test_records_with_both_sides(tmp_path):
    rows = [{"en": source, "de": target} for source, target in zip(SOURCES, TARGETS, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = PairsConfig(source=tmp_path / "pairs.jsonl", source_field="en", target_field="de")
    assert read_pairs(config.source, None, config) == list(zip(SOURCES, TARGETS, strict=True))
    with pytest.raises(DataError, match=r"pairs.jsonl:1 source: must be text.*data.source_field"):
        read_pairs(config.source, None, PairsConfig(source=config.source))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda folder: (folder / "train.en").write_text("one\n"),
            r"train.en.*ends before line 2, and train.de.gz goes on",
        ),
        (lambda folder: (folder / "train.en").unlink(), "train.en.*no such file"),
        (lambda folder: (folder / "train.de.gz").write_bytes(b"\x1f\x8b no"), "train.de.gz.*cannot be read"),
        (lambda folder: (folder / "train.en").write_bytes("fünf\n".encode("latin-1") * 512), "is not utf-8"),
    ],
)
def test_bad_files_are_named(files, tmp_path, change, says):
    change(tmp_path)
    with pytest.raises(DataError, match=says):
        run(files, tmp_path / "run")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["model.model_type=llama"], "is no encoder-decoder"),
        (["data.seq_len=9999"], "longer than the model's context"),
        (["start=x"], "start brings its own"),
        (["data.seq_len=2"], "no pair that fits"),
        (["language=de"], "is no language that the model is told"),
    ],
)
def test_bad_settings_are_named(files, tmp_path, more, says):
    kept = settings(files, tmp_path / "run", *more)
    if more[0].startswith("start"):
        kept = [s for s in kept if not s.startswith(("model.", "train_tokenizer"))] + ["model.hidden_size=8"]
    with pytest.raises((ConfigError, DataError), match=says):
        train_seq2seq(load_config(Seq2SeqConfig, None, kept))


def test_a_decoder_does_not_translate(tiny_folder):
    result = CliRunner().invoke(app, ["translate", str(tiny_folder), "--text", "one"])
    assert "is no encoder-decoder" in str(result.exception)
