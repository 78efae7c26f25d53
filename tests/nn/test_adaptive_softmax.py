"""Adaptive softmax against torch's, and the plan of its clusters against trying all of them."""

from itertools import combinations

import numpy as np
import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.nn.adaptive_softmax import AdaptiveSoftmax, AdaptiveSoftmaxConfig, cluster_width, plan_clusters


def pair(D, V, cutoffs, div_value):
    torch.manual_seed(0)
    ours = AdaptiveSoftmax(D, V, AdaptiveSoftmaxConfig(cutoffs=cutoffs, div_value=div_value)).double()
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(D, V, cutoffs, div_value).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    ("D", "V", "cutoffs", "div_value"),
    [(16, 100, [10, 40], 4.0), (13, 57, [1, 2, 50], 2.0), (8, 9, [8], 1.0), (20, 1000, [100, 101, 500], 2.5)],
)
def test_equals_torch(D, V, cutoffs, div_value):
    ours, theirs = pair(D, V, cutoffs, div_value)
    h, targets = torch.randn(40, D, dtype=torch.float64, requires_grad=True), torch.randint(V, (40,))
    targets[:4] = torch.tensor([0, cutoffs[0], cutoffs[-1], V - 1])
    torch.testing.assert_close(ours(h), theirs.log_prob(h))
    loss, expected = ours.loss(h, targets), theirs(h, targets).loss * 40
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(loss, [h, *ours.parameters()]),
        torch.autograd.grad(expected, [h, *theirs.parameters()], allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(found, torch.zeros_like(found) if wanted is None else wanted)


def test_probabilities_sum_to_one_in_the_order_of_the_ids():
    torch.manual_seed(0)
    order = torch.randperm(30).tolist()
    plain = AdaptiveSoftmax(8, 30, AdaptiveSoftmaxConfig(cutoffs=(5, 12), div_value=2))
    ordered = AdaptiveSoftmax(8, 30, AdaptiveSoftmaxConfig(cutoffs=(5, 12), div_value=2, order=order))
    ordered.load_state_dict(plain.state_dict())
    h, targets = torch.randn(2, 3, 8), torch.randint(30, (6,))
    log_p = ordered(h)
    assert log_p.shape == (2, 3, 30)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 3))
    torch.testing.assert_close(log_p[..., order], plain(h))
    found = -log_p.flatten(0, 1).gather(1, targets[:, None]).sum()
    torch.testing.assert_close(ordered.loss(h.flatten(0, 1), targets), found)


def test_no_target_in_a_cluster_gives_its_weights_a_zero_gradient():
    head = AdaptiveSoftmax(16, 30, AdaptiveSoftmaxConfig(cutoffs=(5, 12)))
    head.loss(torch.randn(4, 16), torch.tensor([0, 1, 6, 6])).backward()
    assert head.tail[0][0].weight.grad.abs().sum() > 0
    assert (head.tail[1][0].weight.grad == 0).all()


def test_softmax_is_float32_in_bfloat16():
    head = AdaptiveSoftmax(16, 50, AdaptiveSoftmaxConfig(cutoffs=(10,))).bfloat16()
    h = torch.randn(5, 16, dtype=torch.bfloat16)
    assert head(h).dtype == head.loss(h, torch.arange(5)).dtype == torch.float32


def test_survives_a_build_without_memory():
    config = AdaptiveSoftmaxConfig(cutoffs=(5, 12), div_value=2, order=tuple(reversed(range(30))))
    head = AdaptiveSoftmax(8, 30, config)
    with torch.device("meta"):
        loaded = AdaptiveSoftmax(8, 30, config)
    loaded.load_state_dict(head.state_dict(), assign=True)
    h = torch.randn(3, 8)
    assert torch.equal(loaded(h), head(h))


def cost(counts, D, cutoffs, div_value):
    """Multiplications per token, as the docstring counts them."""
    frequency = np.sort(counts)[::-1] / counts.sum()
    edges = [*cutoffs, len(counts)]
    total = D * (cutoffs[0] + len(cutoffs))
    for number in range(1, len(edges)):
        start, end = edges[number - 1], edges[number]
        total += frequency[start:end].sum() * cluster_width(D, number, div_value) * (D + end - start)
    return total


@pytest.mark.parametrize(("clusters", "div_value"), [(1, 4.0), (2, 4.0), (3, 2.0)])
@pytest.mark.parametrize("coverage", [0.0, 0.6, 0.8])
def test_the_plan_is_the_cheapest_that_covers_enough(coverage, clusters, div_value):
    rng = np.random.default_rng(clusters)
    counts = rng.permutation(np.ceil(1000 / np.arange(1, 31) ** 1.3)).astype(int)
    config = plan_clusters(counts, 64, clusters, div_value, coverage)
    by_rank = counts[list(config.order)]
    assert (np.diff(by_rank) <= 0).all()
    assert sorted(config.order) == list(range(30))
    allowed = [
        each for each in combinations(range(1, 30), clusters) if by_rank[: each[0]].sum() >= coverage * by_rank.sum()
    ]
    best = min(cost(counts, 64, each, div_value) for each in allowed)
    assert cost(counts, 64, config.cutoffs, div_value) == pytest.approx(best)
    assert config.cutoffs in allowed


def test_a_coverage_that_leaves_the_clusters_nothing_gives_them_one_token_each():
    assert plan_clusters([9, 1, 1, 1], 64, 2, 2.0, coverage=1.0).cutoffs == (2, 3)


def test_the_plan_for_a_large_vocabulary_is_much_cheaper_than_the_full_softmax():
    counts = (1e7 / np.arange(1, 50_001)).astype(int)
    config = plan_clusters(counts, 256)
    assert len(config.cutoffs) == 2
    assert 1_000 < config.cutoffs[0] < 10_000 < config.cutoffs[1] < 50_000
    assert counts[: config.cutoffs[0]].sum() >= 0.8 * counts.sum()
    assert cost(counts, 256, config.cutoffs, 4.0) < 256 * 50_000 / 5
    AdaptiveSoftmax(256, 50_000, config)


# --- bad input


@pytest.mark.parametrize("cutoffs", [[], [0, 3], [5, 5], [7, 3], [-1]])
def test_bad_cutoffs(cutoffs):
    with pytest.raises(ConfigError, match="cutoffs"):
        make_config(AdaptiveSoftmaxConfig, {"cutoffs": cutoffs})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AdaptiveSoftmaxConfig(cutoffs=(5, 30)), "cutoffs.*below the vocabulary's 30"),
        (AdaptiveSoftmaxConfig(cutoffs=(5,), order=(0, 1, 2)), "order.*every token id from 0 to 29"),
        (AdaptiveSoftmaxConfig(cutoffs=(5, 9, 20)), "div_value=4.0: leaves the last of 3 clusters no width of 16"),
    ],
)
def test_a_configuration_that_does_not_fit(config, message):
    with pytest.raises(ConfigError, match=message):
        AdaptiveSoftmax(16, 30, config)


def test_a_plan_that_cannot_be():
    with pytest.raises(ConfigError, match="clusters=3: must be 1 to 2"):
        plan_clusters([5, 2, 1], 64, 3)
    with pytest.raises(ConfigError, match="div_value"):
        plan_clusters([5, 2, 1], 8, 2)
