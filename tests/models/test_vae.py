"""The two variational auto-encoders: they learn, they sample, z carries what it should."""

import math

import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.loss.language_modelling import cross_entropy
from cutaway.loss.variational import VariationalConfig, active_units, bernoulli_nll, kl_to_prior, variational_loss
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.text_vae import TextVAE, TextVAEConfig, drop_words
from cutaway.models.vae import VAE, VAEConfig


def bars(count, seed=0):
    """4 × 4 pictures of which one row or column is on: eight kinds."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.zeros(count, 4, 4)
    for picture, kind in zip(pictures, torch.randint(8, (count,), generator=generator).tolist(), strict=True):
        (picture if kind < 4 else picture.T)[kind % 4] = 1
    return pictures.flatten(1)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = VAE(VAEConfig(vector_size=16, latent_size=4, hidden_sizes=(32,)))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    for step in range(500):
        x = bars(64, seed=step)
        logits, mean, logvar = model(x, generator=generator)
        loss, _ = variational_loss(bernoulli_nll(logits, x).sum(), mean, logvar)
        optimiser.zero_grad()
        (loss / len(x)).backward()
        optimiser.step()
    return model.eval()


def test_bound_lies_between_the_entropy_and_knowing_nothing(trained):
    """Eight kinds cost log 8 nats at best; independent pixels, each on in a quarter of the pictures, cost 16 H(1/4)."""
    x = bars(2000, seed=999)
    with torch.no_grad():
        logits, mean, logvar = trained(x, generator=torch.Generator().manual_seed(0))
        _, metrics = variational_loss(bernoulli_nll(logits, x).sum(), mean, logvar)
    independent = -16 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert math.log(8) < -metrics["elbo"] < independent / 2
    assert metrics["kl"] > 1
    assert active_units(mean).any()


def test_reconstructs_and_samples(trained):
    x = bars(200, seed=5)
    with torch.no_grad():
        again = (trained.decode(trained.encode(x)[0]).sigmoid() > 0.5).float()
    assert (again == x).float().mean() > 0.95
    sampled = trained.sample(300, generator=torch.Generator().manual_seed(0))
    assert sampled.shape == (300, 16)
    assert ((sampled >= 0) & (sampled <= 1)).all()
    nearest = torch.cdist((sampled > 0.5).float(), bars(200)).square().min(1).values
    assert nearest.mean() < 1.5  # pixels away from a real bar
    assert torch.equal(*(trained.sample(3, generator=torch.Generator().manual_seed(1)) for _ in range(2)))


def test_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    torch.manual_seed(0)
    model = VAE(VAEConfig(hidden_sizes=(128,)))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    bounds = []
    for _ in range(12):
        for part in x.split(100):
            logits, mean, logvar = model(part)
            loss, metrics = variational_loss(bernoulli_nll(logits, part).sum(), mean, logvar)
            optimiser.zero_grad()
            (loss / len(part)).backward()
            optimiser.step()
        bounds.append(metrics["elbo"].item())
    pixel = x.mean(0).clamp(1e-6, 1 - 1e-6)
    independent = bernoulli_nll(pixel.logit().expand_as(x), x).mean()
    assert bounds[0] < bounds[-1]
    assert -bounds[-1] < independent - 1


def make_text(**other):
    torch.manual_seed(0)
    return TextVAE(TextVAEConfig(vocab_size=12, hidden_size=24, latent_size=6, **other))


def test_text_forward_equals_step_by_step():
    model = make_text().double().eval()
    z, ids = torch.randn(3, 6, dtype=torch.float64), torch.randint(12, (3, 5))
    whole, last = model.decode(z, ids)
    state, parts = None, []
    for step in ids.split(1, 1):
        h, state = model.decode(z, step, state_BD=state)
        parts.append(h)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


def test_padding_is_not_read():
    model = make_text().double().eval()
    ids = torch.randint(12, (2, 6))
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    mean, logvar = model.encode(ids, mask_BT=mask)
    for row, length in ((0, 6), (1, 3)):
        alone = model.encode(ids[[row], :length])
        torch.testing.assert_close((mean[[row]], logvar[[row]]), alone, rtol=1e-12, atol=1e-12)


def test_text_carries_the_sentence_through_z():
    """Words are independent, so nothing but z tells the writer which come. It learns to listen while the KL costs little."""
    config = VariationalConfig(beta=0.5, anneal_steps=600)
    model = make_text(word_dropout=0.5)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(300):
        words = torch.randint(2, 12, (64, 3), generator=generator)
        read = torch.cat([torch.ones(64, 1, dtype=torch.int64), words[:, :-1]], 1)
        h, mean, logvar = model(words, read, generator=generator)
        nll = cross_entropy(model.logits(h).flatten(0, 1), words.flatten())
        loss, _ = variational_loss(nll, mean, logvar, step, config)
        optimiser.zero_grad()
        (loss / len(words)).backward()
        optimiser.step()
    model.eval()
    words = torch.randint(2, 12, (200, 3), generator=generator)
    mean, logvar = model.encode(words)
    written = model.write(mean, start_id=1, max_tokens=3)
    assert written.shape == (200, 3)
    assert (written == words).float().mean() > 0.3  # one in ten by chance
    assert kl_to_prior(mean, logvar).sum(-1).mean() > 0.5


def test_word_dropout():
    ids = torch.full((100, 50), 7)
    dropped = drop_words(ids, 0.3, 1, torch.Generator().manual_seed(0))
    assert (dropped[:, 0] == 7).all()
    assert set(dropped.unique().tolist()) == {1, 7}
    assert 0.27 < (dropped[:, 1:] == 1).float().mean() < 0.33
    assert torch.equal(drop_words(ids, 0.0, 1), ids)
    model = make_text(word_dropout=1.0).eval()
    ids = torch.randint(12, (2, 4))
    once, again = (model(ids, ids, generator=torch.Generator().manual_seed(3))[0] for _ in range(2))
    other = model(ids, ids.flip(1), generator=torch.Generator().manual_seed(3))[0]
    assert torch.equal(once, again)
    assert not torch.equal(once, other)  # nothing is dropped outside training


@pytest.mark.parametrize(
    "shape",
    [
        {"model_type": "vae", "vector_size": 9, "latent_size": 2, "hidden_sizes": [5, 4]},
        {"model_type": "vae", "vector_size": 9, "latent_size": 2, "hidden_sizes": []},
        {"model_type": "text_vae", "vocab_size": 12, "hidden_size": 8, "latent_size": 3},
        {"model_type": "text_vae", "vocab_size": 12, "hidden_size": 8, "latent_size": 3, "tie_word_embeddings": False},
    ],
)
def test_saved_equals_loaded(shape, tmp_path):
    torch.manual_seed(0)
    model = make_model(shape).eval()
    save_model(model, None, tmp_path / "model")
    loaded = load_model(tmp_path / "model", torch.float32, torch.device("cpu"))
    assert loaded.config == model.config
    x = torch.rand(3, 9) if shape["model_type"] == "vae" else torch.randint(12, (3, 4))
    for found, expected in zip(loaded.encode(x), model.encode(x), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (VAEConfig, {"latent_size": 0}),
        (VAEConfig, {"hidden_sizes": [0]}),
        (TextVAEConfig, {"word_dropout": 1.5}),
        (TextVAEConfig, {"vocab_size": 0}),
    ],
)
def test_a_bad_setting_is_named(config, setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make_config(config, setting)
