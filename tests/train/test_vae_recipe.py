"""Auto-encoders of images and texts, end to end: the bound improves, stopped runs go on exactly, bad images are named."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.image_vectors import ImageBatch, ImageVectorsConfig, open_images
from cutaway.data.images import read_image, write_grid
from cutaway.data.sentences import open_sentences
from cutaway.loss.language_modelling import cross_entropy
from cutaway.loss.variational import VariationalConfig, bernoulli_nll, beta_at, kl_to_prior
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.vae import VAE, VAEConfig
from cutaway.text.load import load_tokenizer
from cutaway.train.vae import ImageVAERun, TextVAERun, batches_before, negative_elbo, train_vae

SEGMENTS = ["abcefg", "cf", "acdeg", "acdfg", "bcdf", "abdfg", "abdefg", "acf", "abcdefg", "abcdfg"]
STROKES = {
    "a": np.s_[0, 1:3],
    "b": np.s_[1:3, 0],
    "c": np.s_[1:3, 3],
    "d": np.s_[3, 1:3],
    "e": np.s_[4:6, 0],
    "f": np.s_[4:6, 3],
    "g": np.s_[6, 1:3],
}


def digit(number, draw):
    """A seven-segment digit, 7 × 4 pixels, with noise."""
    picture = np.full((7, 4), 20.0)
    for segment in SEGMENTS[number]:
        picture[STROKES[segment]] = 235
    return Image.fromarray((picture + draw.uniform(-20, 20, picture.shape)).astype(np.uint8))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("digits"), np.random.default_rng(0)
    for index in range(200):
        digit(index % 10, draw).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    path, draw = tmp_path_factory.mktemp("texts") / "texts.jsonl", np.random.default_rng(0)
    words = [["red", "big", "old", "wet"], ["car", "dog", "cup", "boat"], ["here", "there", "gone"]]
    texts = [" ".join(draw.choice(some) for some in words) for _ in range(300)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def image_settings(path, out, *more):
    shape = ["model.latent_size=4", "model.hidden_sizes=[32]", "data.rows=20", "optim.lr=1e-2"]
    return [f"data.path={path}", f"out={out}", *shape, "loop.tensorboard=false", "loop.precision=float32", *more]


def text_settings(path, out, *more):
    shape = ["model.latent_size=4", "model.hidden_size=24", "model.word_dropout=0.3", "loss.anneal_steps=60"]
    data = [f"data.path={path}", f"data.cache={out.parent / 'cache'}", "train_tokenizer.vocab_size=300"]
    return [*data, f"out={out}", *shape, "optim.lr=1e-2", "loop.tensorboard=false", "loop.precision=float32", *more]


def train_images(*words):
    return train_vae(load_config(ImageVAERun, None, image_settings(*words)))


def train_texts(*words):
    return train_vae(load_config(TextVAERun, None, text_settings(*words)))


def test_digits_are_learned_and_drawn(digits, tmp_path):
    report = train_images(
        digits, tmp_path / "run", "loop.epochs=30", "loss.anneal_steps=50", "loop.trace_gradients=true"
    )
    bound = report["held_out_loss"]["held_out"]
    assert report["unit"] == "bits per dimension"
    assert bound["before"] == pytest.approx(1, abs=0.2)  # pixels tossed like coins
    assert report["kl"] > 1
    assert report["active_units"] >= 2
    assert report["rows"] < 200

    model = load_model(tmp_path / "run" / "model", torch.float32, torch.device("cpu"))
    held_out = next(open_images(ImageVectorsConfig(path=digits, rows=200), 0).held_out.once())
    with torch.no_grad():
        loss, n, _ = negative_elbo(model, held_out, generator=torch.Generator().manual_seed(0))
    assert n == 28 * len(held_out.pixels_BN)
    mean_N = held_out.pixels_BN.mean(0)
    independent = bernoulli_nll(mean_N.logit().expand_as(held_out.pixels_BN), held_out.pixels_BN).sum().item()
    assert bound["after"] < 0.9 * independent / n / math.log(2)  # than knowing how often each pixel is on
    assert loss.item() / n / math.log(2) == pytest.approx(bound["after"], rel=0.02)  # the noise falls on other rows

    picture = tmp_path / "drawn.png"
    said = CliRunner().invoke(
        app, ["vae", "sample", str(tmp_path / "run" / "model"), "--n", "5", "--out", str(picture)]
    )
    assert said.exit_code == 0
    assert "5 images" in said.stdout
    assert read_image(picture, 1).shape == (1, 2 * (6 * 7 + 2), 3 * (6 * 4 + 2))  # 3 in a row, each 6 times as large
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert all(set(line["gradient_norms"]) == {"rest"} for line in lines if "gradient_norms" in line)


def test_sentences_are_learned_and_drawn(sentences, tmp_path):
    report = train_texts(sentences, tmp_path / "run", "loop.steps=120")
    bound = report["held_out_loss"]["held_out"]
    assert report["unit"] == "nats per token"
    assert bound["after"] < 0.4 * bound["before"]
    said = CliRunner().invoke(app, ["vae", "sample", str(tmp_path / "run" / "model"), "--n", "3", "--max-tokens", "9"])
    assert len(said.stdout.splitlines()) == 3
    assert {"car", "dog", "cup", "boat"} & set(said.stdout.split())


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(kind, digits, sentences, check_resumed):
    """Noise, dropped words, the weight of the KL and the order of the data are those of an uninterrupted run."""
    run, path = (train_images, digits) if kind == "images" else (train_texts, sentences)
    short = ("loop.steps=12", "loop.checkpoint_every=5", "loop.eval_every=4", "loss.anneal_steps=10")
    check_resumed(lambda out: run(path, out, *short))


def test_the_weight_of_the_kl_grows_with_the_steps(digits, tmp_path):
    more = ("loop.steps=8", "loop.micro_batches=3", "loop.log_every=1", "loss.anneal_steps=4", "loss.beta=0.5")
    train_images(digits, tmp_path / "run", *more)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line["beta"] for line in lines if "beta" in line]
    assert logged == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5])
    assert logged[2] == beta_at(2, VariationalConfig(beta=0.5, anneal_steps=4))


def test_a_stream_tells_how_many_batches_came_before(digits):
    stream = open_images(ImageVectorsConfig(path=digits, rows=60), 0).train
    assert batches_before(stream) == 0
    assert [batches_before(stream) for _ in zip(range(7), stream, strict=False)] == list(range(7))


def test_the_objective_is_the_sum_of_its_terms(digits, sentences, tmp_path):
    """Of images and texts alike: −log p(x | z) from the model's own logits, and the KL."""
    train_texts(sentences, tmp_path / "run", "loop.steps=1")
    model = load_model(tmp_path / "run" / "model", torch.float32, torch.device("cpu"))
    config = load_config(TextVAERun, tmp_path / "run" / "config.yaml")
    tokenizer = load_tokenizer(tmp_path / "run" / "model")
    batch = next(open_sentences(config.data, tokenizer, 0).train)
    assert (batch.ids_BT[torch.arange(len(batch.ids_BT)), batch.real_BT.sum(1) - 1] == tokenizer.eos_id).all()
    expected = 0.0
    noise, again = (torch.Generator().manual_seed(7) for _ in range(2))
    with torch.no_grad():
        loss, n, _ = negative_elbo(model, batch, generator=noise)
        mean, logvar = model.encode(batch.ids_BT, mask_BT=batch.real_BT)
        z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=again)
        for row, (ids, real) in enumerate(zip(batch.ids_BT, batch.real_BT, strict=True)):  # without padding
            ids = ids[real]
            read = torch.cat([torch.tensor([model.config.decoder_start_token_id]), ids[:-1]])
            h = model.decode(z[[row]], read[None])[0][0]
            expected += (cross_entropy(model.logits(h), ids) + kl_to_prior(mean[row], logvar[row]).sum()).item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert n == batch.n_tokens

    images = open_images(ImageVectorsConfig(path=digits, rows=8), 0).train
    torch.manual_seed(0)
    model, batch = VAE(VAEConfig(vector_size=28, latent_size=3, hidden_sizes=(5,))), next(images)
    loss, n, _ = negative_elbo(model, batch, VariationalConfig(beta=0.25), generator=torch.Generator().manual_seed(1))
    logits, mean, logvar = model(batch.pixels_BN, generator=torch.Generator().manual_seed(1))
    whole = bernoulli_nll(logits, batch.pixels_BN).sum() + 0.25 * kl_to_prior(mean, logvar).sum()
    torch.testing.assert_close(loss, whole)
    assert (n, batch.n_tokens, batch.n_positions) == (8 * 28, 8, 8)
    assert isinstance(batch, ImageBatch)


def test_records_name_images_and_sizes_and_colours_are_made_alike(tmp_path):
    for number, size in enumerate([(4, 7), (8, 14), (4, 7)]):
        Image.new("RGB", size, (255, 51 * number, 0)).save(tmp_path / f"{number}.png")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"file": f"{number}.png"}) + "\n" for number in range(3)))
    config = ImageVectorsConfig(path=path, image_field="file", size=(7, 4), channels=3)
    corpus = open_images(config, 0)
    assert corpus.shape == (3, 7, 4)
    rows = torch.cat([batch.pixels_BN for stream in (corpus.train, corpus.held_out) for batch in stream.once()])
    assert rows.shape == (3, 84)
    assert sorted(rows[:, 28].tolist()) == pytest.approx([0, 0.2, 0.4])


def spoil(folder, digits):
    """Good images, and three that are not."""
    for file in sorted(digits.glob("00*.png")):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "a.png").write_bytes(sorted(digits.glob("*.png"))[0].read_bytes()[:50])
    (folder / "b.png").write_bytes(b"")
    Image.new("L", (5, 5)).save(folder / "c.png")
    return folder


def test_bad_images_are_refused_or_counted(digits, tmp_path):
    folder = spoil(tmp_path, digits)
    with pytest.raises(DataError, match=r"image=.*a\.png.: does not decode.*data\.bad=skip"):
        open_images(ImageVectorsConfig(path=folder), 0)
    corpus = open_images(ImageVectorsConfig(path=folder, bad="skip"), 0)
    assert corpus.skipped["counts"] == {"that cannot be used": 3}
    assert "a.png': does not decode" in corpus.skipped["first"]["that cannot be used"]
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"5×5 pixels and others are 7×4.*data\.size=\[7,4\]"):
        open_images(ImageVectorsConfig(path=folder), 0)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "x"}], r"r.jsonl:1 image: must name a file.*data.image_field"),
        ([{"image": "none.png"}], r"r.jsonl:1 image.*no such file"),
    ],
)
def test_bad_records_are_named(rows, says, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=says):
        open_images(ImageVectorsConfig(path=path), 0)


def test_other_mistakes_are_named(digits, sentences, tmp_path):
    with pytest.raises(DataError, match="no image file is there"):
        open_images(ImageVectorsConfig(path=tmp_path / "none"), 0)
    (tmp_path / "one").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "one" / "only.png")
    with pytest.raises(ConfigError, match="one row only"):
        open_images(ImageVectorsConfig(path=tmp_path / "one"), 0)
    with pytest.raises(ConfigError, match=r"vector_size is 9 and image_shape 1 × 7 × 4"):
        train_images(digits, tmp_path / "a", "model.vector_size=9")
    with pytest.raises(ConfigError, match="model_type"):
        train_images(digits, tmp_path / "b", "model.model_type=llama")
    plain = [f"data.path={sentences}", f"out={tmp_path / 'c'}", "train_tokenizer.vocab_size=300"]
    with pytest.raises(ConfigError, match=r"model=.llama.: is no auto-encoder of texts"):
        train_vae(load_config(TextVAERun, None, [*plain, "model.model_type=llama"]))
    vectors = make_model({"model_type": "vae", "vector_size": 9, "latent_size": 2})
    save_model(vectors, None, tmp_path / "vectors")
    said = CliRunner().invoke(app, ["vae", "sample", str(tmp_path / "vectors")])
    assert isinstance(said.exception, ConfigError)
    assert "draws neither images nor texts" in str(said.exception)
    with pytest.raises(ConfigError, match="packing"):
        load_config(TextVAERun, None, text_settings(sentences, tmp_path / "d", "data.packing=true"))
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        write_grid(torch.zeros(1, 1, 2, 2), tmp_path / "grid.jpg")


def test_the_commands(digits, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    words = image_settings(spoil(folder, digits), tmp_path / "run", "loop.steps=2", "data.bad=skip")
    said = CliRunner().invoke(app, ["vae", "train", *words], catch_exceptions=False).stdout
    assert "left out: 3 images that cannot be used" in said
    assert "bits per dimension" in said
    again = CliRunner().invoke(app, ["vae", "train", *words, "--json"], catch_exceptions=False).stdout
    assert json.loads(again)["steps"] == 2
