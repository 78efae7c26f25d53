"""Labels of texts, pairs and words, learned on the packaged encoder and on a small one of our own; what is refused."""

import json
import random

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.labelled import LabelledConfig, count_labels, open_labelled, read_labelled
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.text.framing import Framing
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.classify import ClassifyConfig, classification, classify, head_alone, scores

NICE, BAD = ["good", "fine", "lovely", "warm", "kind"], ["poor", "cold", "rude", "awful", "dull"]
THINGS = ["room", "meal", "staff", "view", "bed", "music"]


def reviews(n=120):
    draw = random.Random(0)
    for _ in range(n):
        tone = draw.random() < 0.5
        words = [draw.choice(NICE if tone else BAD), draw.choice(THINGS), draw.choice(NICE if tone else BAD)]
        yield {"text": f"the {words[1]} was {words[0]} and {words[2]}", "label": "praise" if tone else "blame"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request, tmp_path_factory):
    """A small encoder with random weights, as a folder."""
    texts = [row["text"] for row in reviews()]
    kind = {"bert": {"kind": "wordpiece"}, "roberta": {"extra": ("<s>", "</s>")}}[request.param]
    tokenizer = train_tokenizer(texts, TrainTokenizerConfig(vocab_size=300, min_frequency=1, **kind))
    torch.manual_seed(0)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    shape |= dict(model_type=request.param, vocab_size=tokenizer.vocab_size, max_position_embeddings=64)
    folder = tmp_path_factory.mktemp("encoder") / request.param
    save_model(make_model(shape), tokenizer, folder)
    return folder


@pytest.fixture
def settings(encoder_settings):
    return lambda path, start, out, *more: encoder_settings(
        path, start, out, "data.seq_len=32", "loop.epochs=12", *more
    )


@pytest.fixture
def run(settings):
    return lambda *words: classify(load_config(ClassifyConfig, None, settings(*words)))


def test_labels_of_texts(run, encoder, tmp_path):
    report = run(write(tmp_path / "r.jsonl", reviews()), encoder, tmp_path / "run")
    assert report["scores"]["accuracy"] > 0.9
    assert report["scores"]["macro_f1"] > 0.9
    assert sum(report["labels"].values()) == 120
    loaded = load(tmp_path / "run" / "model", dtype="float32")
    assert loaded.model.config.labels == ("blame", "praise")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert theirs.config.id2label == {0: "blame", 1: "praise"}


def test_labels_of_pairs(run, encoder, tmp_path):
    """The tone of the second text, whatever the first one says."""
    draw = random.Random(1)
    rows = []
    for _ in range(240):
        first, second = draw.choice(NICE + BAD), draw.choice(NICE + BAD)
        rows.append(
            {
                "text": f"{first} {draw.choice(THINGS)}",
                "text_pair": f"{second} {draw.choice(THINGS)}",
                "label": int(second in NICE),
            }
        )
    report = run(write(tmp_path / "p.jsonl", rows), encoder, tmp_path / "run", "loop.epochs=20")
    assert report["scores"]["accuracy"] > 0.85
    assert report["labels"].keys() == {"0", "1"}


def test_labels_of_words(run, encoder, tmp_path):
    rows = [
        {"words": (words := row["text"].split()), "tags": ["THING" if w in THINGS else "O" for w in words]}
        for row in reviews()
    ]
    more = ["data.text_field=words", "data.label_field=tags"]
    report = run(write(tmp_path / "w.jsonl", rows), encoder, tmp_path / "run", *more)
    assert report["scores"]["accuracy"] > 0.97
    assert load(tmp_path / "run" / "model").model.config.head == "tokens"


def test_the_head_alone(run, encoder, tmp_path):
    before = load(encoder, dtype="float32").model.state_dict()
    path, words = write(tmp_path / "r.jsonl", reviews()), ("train_encoder=false", "loop.epochs=1")
    run(path, encoder, tmp_path / "run", *words)
    run(path, encoder, tmp_path / "still", *words, "optim.lr=1e-12")
    after, fresh = (load(tmp_path / name / "model", dtype="float32").model.state_dict() for name in ("run", "still"))
    for name, value in after.items():
        old = before.get(name.partition(".")[2])  # without the encoder's name; BERT's pooler is no part of `before`
        assert torch.equal(value, old) if old is not None else not torch.equal(value, fresh[name])


def test_an_encoder_that_does_not_learn_drops_nothing(encoder):
    from cutaway.data.labelled import LabelBatch
    from cutaway.models.bert_heads import with_head

    loaded = load(encoder, dtype="float32").model
    config = loaded.config.model_copy(update={"hidden_dropout_prob": 0.5})
    model = with_head(type(loaded)(config), "sequence", ("a", "b"))
    model.dropout.p = 0.0  # the head's own stays on
    ids = torch.arange(6)[None].expand(3, -1)
    batch = LabelBatch(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids), torch.tensor([0, 1, 0]))
    losses = []
    for objective in (head_alone, head_alone, classification):
        model.train()
        losses.append(objective(model, batch)[0].item())
        assert model.dropout.training
    assert losses[0] == losses[1] != losses[2]


def test_fresh_weights_are_not_those_of_the_start(run, encoder, tmp_path):
    path = write(tmp_path / "r.jsonl", reviews())
    run(path, encoder, tmp_path / "run", "fresh=true", "loop.steps=1", "optim.lr=1e-9")
    after = load(tmp_path / "run" / "model", dtype="float32").model.embedding.weight
    assert not torch.allclose(after, load(encoder, dtype="float32").model.embedding.weight, atol=1e-3)


def test_the_command(settings, minilm, tmp_path):
    path = write(tmp_path / "r.jsonl", reviews(60))
    words = settings(
        path, minilm, tmp_path / "run", "loop.epochs=1", "train_encoder=false", "optim.lr=1e-2", "data.rows=8"
    )
    said = CliRunner().invoke(app, ["classify", *words], catch_exceptions=False).stdout
    assert "labels: blame (" in said
    assert "accuracy" in said


def test_frames_equal_those_of_transformers(minilm, tmp_path):
    theirs, tokenizer = AutoTokenizer.from_pretrained(minilm), load(minilm).tokenizer
    framing = Framing(tokenizer)
    for a, b in (("a kind word", None), ("one text", "and another one"), ("", "x")):
        expected = theirs(a, b)
        encoded = tokenizer.encode(b) if b is not None else None
        assert framing.frame(tokenizer.encode(a), encoded, 512) == (expected["input_ids"], expected["token_type_ids"])
    ids, types = framing.frame(list(range(1000, 1030)), list(range(2000, 2006)), 20)
    assert len(ids) == len(types) == 20
    assert ids[-7:-1] == list(range(2000, 2006))  # the shorter text stays whole


def test_padding_changes_no_score(encoder, tmp_path):
    path = write(tmp_path / "r.jsonl", [*reviews(20), {"text": "good " * 20, "label": "praise"}])
    config = LabelledConfig(path=path, seq_len=48, rows=4)
    records, loaded = read_labelled(path, config), load(encoder, dtype="float32")
    from cutaway.models.bert_heads import with_head

    labels = tuple(count_labels(record.label for record in records))
    model = with_head(loaded.model, "sequence", labels)
    corpora = [
        open_labelled(config.model_copy(update={"rows": n}), records, labels, loaded.tokenizer, 0) for n in (1, 8)
    ]
    one, eight = (scores(model, corpus.train.once()) for corpus in corpora)
    assert one == pytest.approx(eight)


def test_words_longer_than_the_row_are_cut_and_counted(encoder, tmp_path):
    path = write(tmp_path / "w.jsonl", [{"text": ["room"] * n, "label": ["A", *["B"] * (n - 1)]} for n in (3, 60)])
    config = LabelledConfig(path=path, seq_len=16, held_out=path)
    corpus = open_labelled(config, read_labelled(path, config), ("A", "B"), load(encoder).tokenizer, 0)
    assert corpus.skipped["counts"] == {"truncated": 2}
    row = max(corpus.train.rows, key=lambda row: len(row.ids))
    assert len(row.ids) == len(row.labels) == 16
    assert row.labels[0] == row.labels[-1] == IGNORED
    assert row.labels[1] == 0


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "x"}], r"r.jsonl:1 label: is missing"),
        ([{"txt": "x", "label": "a"}], r"r.jsonl:1 text: is missing.*txt"),
        ([{"text": 3, "label": "a"}], "text=3: must be text"),
        ([{"text": "x", "label": 1.5}], "label=1.5"),
        ([{"text": "x", "label": "a"}, {"text": "y", "label": "a"}], "one label only: a"),
        ([{"text": ["x", "y"], "label": ["a"]}], "one label per word"),
        ([{"text": ["x"], "label": ["a"]}, {"text": "x", "label": "b"}], "words in some records"),
        (["just text"], "must be an object"),
    ],
)
def test_bad_records_are_named(run, encoder, tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        run(write(tmp_path / "r.jsonl", rows), encoder, tmp_path / "run")


def test_labels_that_are_numbers_stand_by_their_size_and_others_by_their_letters():
    assert list(count_labels(["10", "9", "-1"])) == ["-1", "9", "10"]
    assert list(count_labels(["10", "9", "²"])) == ["10", "9", "²"]
    assert list(count_labels(["10", "9", "--1"])) == ["--1", "10", "9"]


def test_a_label_that_training_does_not_have(run, encoder, tmp_path):
    path = write(tmp_path / "r.jsonl", reviews())
    other = write(tmp_path / "o.jsonl", [{"text": "x", "label": "doubt"}])
    with pytest.raises(DataError, match=r"o.jsonl:1 label='doubt': does not occur in training"):
        run(path, encoder, tmp_path / "run", f"data.held_out={other}")


def test_a_decoder_is_refused(run, tiny_folder, tmp_path):
    with pytest.raises(ConfigError, match="is no encoder"):
        run(write(tmp_path / "r.jsonl", reviews()), tiny_folder, tmp_path / "run")
