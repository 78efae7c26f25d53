"""The contrastive loss by its definition, and an encoder that learns which texts belong together."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.contrast import Triple, collate_triples
from cutaway.data.rows import RowStream
from cutaway.loss.contrastive import info_nce
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.retrieve.embed import Embedder
from cutaway.text.framing import Framing
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.contrast import ContrastRunConfig, contrast, contrastive

WORDS = {
    "red": "scarlet",
    "big": "large",
    "fast": "quick",
    "cold": "chilly",
    "sad": "gloomy",
    "old": "ancient",
    "wet": "damp",
}
THINGS = ["car", "house", "dog", "river", "cup", "road", "coat", "boat"]


def rows(negative=False):
    for word, like in WORDS.items():
        for thing in THINGS:
            other = THINGS[(THINGS.index(thing) + 3) % len(THINGS)]
            row = {"anchor": f"a {word} {thing}", "positive": f"the {thing} is {like}"}
            yield {**row, "negative": f"the {other} is {like}"} if negative else row


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    texts = [text for row in rows() for text in row.values()]
    tokenizer = train_tokenizer(texts, TrainTokenizerConfig(kind="wordpiece", vocab_size=300, min_frequency=1))
    torch.manual_seed(0)
    shape = dict(model_type="bert", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    save_model(
        make_model({**shape, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 32}), tokenizer, folder
    )
    return folder


@pytest.fixture
def settings(encoder_settings):
    return lambda path, start, out, *more: encoder_settings(
        path, start, out, "data.seq_len=16", "loop.epochs=40", *more
    )


@pytest.fixture
def run(settings):
    return lambda *words: contrast(load_config(ContrastRunConfig, None, settings(*words)))


def test_the_loss():
    torch.manual_seed(0)
    a, b, c = (normalize(torch.randn(5, 8), dim=-1) for _ in range(3))
    scores = (a @ b.T / 0.1).log_softmax(-1)
    torch.testing.assert_close(info_nce(a, b, 0.1)[0], -scores.diag().sum())
    with_negatives = (a @ torch.cat((b, c)).T / 0.1).log_softmax(-1)[:, :5]
    torch.testing.assert_close(info_nce(a, b, 0.1, c)[0], -with_negatives.diag().sum())
    back = (b @ a.T / 0.1).log_softmax(-1)
    torch.testing.assert_close(info_nce(a, b, 0.1, two_sided=True)[0], -(scores.diag() + back.diag()).sum() / 2)
    exact = info_nce(a, b, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(info_nce(a, b, 0.01), exact)
    loss, nearest = info_nce(a, a, 0.01)
    assert nearest == 1
    assert loss < 0.01


def test_candidates_that_are_as_right_as_the_own_are_left_out():
    torch.manual_seed(0)
    a, b, c = (normalize(torch.randn(3, 8), dim=-1) for _ in range(3))
    alike = torch.eye(3, 6, dtype=torch.bool)
    torch.testing.assert_close(info_nce(a, b, 0.1, c, alike_BC=alike), info_nce(a, b, 0.1, c))
    alike[0, 2] = alike[2, 0] = True
    scores = a @ b.T / 0.1
    first, second = scores[[0, 2]][:, [0, 2]].diag(), scores[[0, 2], 1]
    expected = -torch.stack((first, second)).log_softmax(0)[0].sum() - scores[1].log_softmax(-1)[1]
    torch.testing.assert_close(info_nce(a, b, 0.1, alike_BC=alike[:, :3])[0], expected)


@pytest.mark.parametrize("same", ["anchor", "positive"])
def test_rows_of_one_text_are_not_told_apart(encoder, same):
    loaded = load(encoder, dtype="float32")
    framing = Framing(loaded.tokenizer)

    def triple(anchor, positive):
        ids = (framing.frame(loaded.tokenizer.encode(text), None, 16)[0] for text in (anchor, positive))
        return Triple(*ids, [])

    def loss(*triples):
        with torch.no_grad():
            return contrastive(loaded.model, collate_triples(triples, 0))[0].item()

    one, other = triple("a red car", "a big dog"), triple("the old wet road", "the cold river")
    assert loss(one, other) > 1e-3
    assert loss(one, replace(other, **{same: getattr(one, same)})) == 0


def test_a_last_row_joins_the_batch_before():
    def stream(n, least):
        return RowStream(list(range(n)), lambda rows, drawn: rows, 4, 0, least=least)

    for n, sizes in ((9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2]), (1, [1]), (5, [5])):
        some = stream(n, 2)
        assert [len(batch) for batch in some.once()] == sizes
        assert some.batches_per_epoch == len(sizes)
        drawn = [next(some) for _ in sizes]
        assert sorted(row for batch in drawn for row in batch) == list(range(n))
        assert sorted(map(len, drawn)) == sorted(sizes)
    assert [len(batch) for batch in stream(9, 1).once()] == [4, 4, 1]


def test_a_side_of_one_row_cannot_be_compared(run, encoder, tmp_path):
    few = list(rows())[:3]
    with pytest.raises(ConfigError, match="fewer than 4 rows"):
        run(write(tmp_path / "r.jsonl", few), encoder, tmp_path / "run")
    held = write(tmp_path / "h.jsonl", few[:1])
    with pytest.raises(ConfigError, match=r"data.held_out=1: holds fewer than 2"):
        run(write(tmp_path / "r.jsonl", few), encoder, tmp_path / "run", f"data.held_out={held}")


@pytest.mark.parametrize("negative", [False, True])
def test_texts_that_belong_together_become_near(run, encoder, tmp_path, negative):
    report = run(write(tmp_path / "r.jsonl", rows(negative)), encoder, tmp_path / "run")
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < 0.7 * loss["before"]
    embedder = Embedder(str(tmp_path / "run" / "model"))
    anchor, own, other = embedder.encode(["a cold river", "the river is chilly", "the coat is ancient"])
    assert anchor @ own > anchor @ other + 0.3


def test_two_sided_and_the_command(settings, encoder, tmp_path):
    path = write(tmp_path / "r.jsonl", rows())
    said = (
        CliRunner()
        .invoke(
            app,
            ["contrast", *settings(path, encoder, tmp_path / "run", "loop.steps=3", "loss.two_sided=true")],
            catch_exceptions=False,
        )
        .stdout
    )
    assert "nats per row" in said


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([{"anchor": "x"}], r"r.jsonl:1 positive: must be text.*data.positive_field"),
        ([{"anchor": " ", "positive": "y"}], r"r.jsonl:1 anchor"),
        ([{"anchor": "x", "positive": "y", "negative": 3}], "negative=3"),
        ([{"anchor": "x", "positive": "y", "negative": " "}], "negative=' '"),
        (
            [{"anchor": "x", "positive": "y", "negative": "z"}, {"anchor": "x", "positive": "y"}],
            r"r.jsonl:2 negative: is in some",
        ),
    ],
)
def test_bad_records_are_named(run, encoder, tmp_path, found, says):
    with pytest.raises(DataError, match=says):
        run(write(tmp_path / "r.jsonl", found), encoder, tmp_path / "run")


def test_a_decoder_is_refused(run, tiny_folder, tmp_path):
    with pytest.raises(ConfigError, match="is no encoder"):
        run(write(tmp_path / "r.jsonl", rows()), tiny_folder, tmp_path / "run")
