import pytest
import torch

from cutaway.labs.contract import verdict
from cutaway.labs.lab22_multi_head_attention import (
    KINDS,
    LAB,
    LENGTH,
    MHA,
    apart,
    shaped,
    weight_at,
    without,
)
from cutaway.labs.lagged_tokens import LaggedTokens


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(22)


def test_models_of_all_kinds_have_equal_parameters(numbers):
    assert numbers["kinds"] == list(KINDS)
    assert min(numbers["parameters"]) > 0.98 * max(numbers["parameters"])


def test_one_head_as_good_as_four_would_refute_the_claim(numbers):
    one_as_good = [numbers["nats_by_heads"][1], *numbers["nats_by_heads"][1:]]
    assert verdict(LAB.checks, {**numbers, "nats_by_heads": one_as_good})[0] == "refuted"


def test_sixteen_heads_far_better_than_four_would_lift_the_limit(numbers):
    far_better = [*numbers["nats_by_heads"][:-1], 0.0]
    assert not verdict(LAB.checks, {**numbers, "nats_by_heads": far_better})[1]["returns diminish"]


@torch.inference_mode()
def test_a_head_is_cut_off_and_put_back():
    torch.manual_seed(0)
    model, ids = shaped(MHA, 16), torch.arange(5)[None]
    before, attention = model(ids), model.blocks[0].attention
    seen = []
    attention.o_proj.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with without(model, 2):
        model(ids)
    joined, cut = seen[0]
    others = joined.clone()
    others[..., 16:24] = 0  # heads are 8 wide
    assert torch.allclose(cut, others @ attention.o_proj.weight.T, atol=1e-6)
    assert torch.equal(model(ids), before)


def test_scores_of_heads_are_shares():
    torch.manual_seed(0)
    batch = LaggedTokens(0, 2, 4).batch(3, LENGTH, torch.Generator().manual_seed(0))
    model = shaped(MHA, 16)
    near, far = torch.tensor(weight_at(model, batch, 2)), torch.tensor(weight_at(model, batch, 4))
    assert near.shape == (4,)
    assert 0 < apart(model, batch) < 1
    assert ((near > 0) & (far > 0) & (near + far < 1)).all()
