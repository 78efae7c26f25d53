"""The terms of the evidence lower bound against torch's distributions."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.loss.variational import (
    VariationalConfig,
    active_units,
    bernoulli_nll,
    beta_at,
    free_bits,
    kl_gaussians,
    kl_to_prior,
    reparameterise,
    variational_loss,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kl_equals_torch():
    mean, logvar, other_mean, other_logvar = (draw(5, 3, seed=seed) for seed in range(4))
    q, p = Normal(mean, (logvar / 2).exp()), Normal(other_mean, (other_logvar / 2).exp())
    torch.testing.assert_close(kl_gaussians(mean, logvar, other_mean, other_logvar), kl_divergence(q, p))
    prior = Normal(torch.zeros(5, 3, dtype=torch.float64), torch.ones(5, 3, dtype=torch.float64))
    torch.testing.assert_close(kl_to_prior(mean, logvar), kl_divergence(q, prior))
    torch.testing.assert_close(kl_to_prior(mean, logvar), kl_gaussians(mean, logvar, mean * 0, mean * 0))
    assert (kl_gaussians(mean, logvar, mean, logvar) == 0).all()


def test_bernoulli_equals_torch():
    logits, x = draw(4, 7), (draw(4, 7, seed=1) > 0).double()
    torch.testing.assert_close(bernoulli_nll(logits, x), -Independent(Bernoulli(logits=logits), 1).log_prob(x))


def test_reparameterised_samples_have_the_parameters_and_their_gradients():
    mean, logvar = torch.tensor([[1.0, -2.0]]).requires_grad_(), torch.tensor([[0.0, 2.0]]).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    z = reparameterise(mean.expand(40_000, 2), logvar.expand(40_000, 2), generator)
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), logvar[0].exp(), atol=0.2, rtol=0)
    # d/dmean E[z²] = 2 mean and d/dlogvar E[z²] = variance
    d_mean, d_logvar = torch.autograd.grad(z.square().mean(0).sum(), (mean, logvar))
    torch.testing.assert_close(d_mean, 2 * mean, atol=0.1, rtol=0)
    torch.testing.assert_close(d_logvar, logvar.exp(), atol=0.2, rtol=0)
    again = [reparameterise(mean, logvar, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*again)


def test_loss_and_metrics():
    mean, logvar, nll = draw(6, 3), draw(6, 3, seed=1), draw(1, seed=2).abs().sum()
    loss, metrics = variational_loss(nll, mean, logvar)
    torch.testing.assert_close(loss, nll + kl_to_prior(mean, logvar).sum())
    torch.testing.assert_close(metrics["elbo"], -loss / 6)
    torch.testing.assert_close(metrics["elbo"], -metrics["nll"] - metrics["kl"])
    loss, metrics = variational_loss(nll, mean, logvar, 3, VariationalConfig(beta=2, anneal_steps=4))
    assert metrics["beta"] == 1.5
    torch.testing.assert_close(loss, nll + 1.5 * kl_to_prior(mean, logvar).sum())


def test_annealing_grows_to_beta_and_stays():
    config = VariationalConfig(beta=0.5, anneal_steps=10)
    assert [beta_at(step, config) for step in (0, 5, 10, 99)] == [0, 0.25, 0.5, 0.5]
    assert beta_at(0, VariationalConfig()) == 1


def test_free_bits_leave_small_dimensions_alone():
    mean = torch.tensor([[0.1, 2.0], [-0.1, -2.0]]).requires_grad_()
    kl = kl_to_prior(mean, torch.zeros(2, 2))
    assert free_bits(kl, 0.5).item() == pytest.approx(0.5 + 2.0)
    (gradient,) = torch.autograd.grad(free_bits(kl, 0.5), mean)
    assert (gradient[:, 0] == 0).all()
    assert (gradient[:, 1] != 0).all()
    _, metrics = variational_loss(torch.tensor(0.0), mean, torch.zeros(2, 2), 0, VariationalConfig(free_nats=0.5))
    assert metrics["kl"].item() == pytest.approx(0.005 + 2.0)  # what is reported is the KL itself


def test_active_units():
    assert active_units(torch.tensor([[0.0, 1.0, 5.0], [0.01, -1.0, 5.0]])).tolist() == [False, True, False]


@pytest.mark.parametrize("setting", [{"beta": -1}, {"free_nats": -0.1}, {"anneal_steps": -5}])
def test_a_bad_setting_is_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make_config(VariationalConfig, setting)
