"""Lab 17: its measures."""

import torch

from cutaway.labs import lab17_transformer_rnn as lab
from cutaway.labs.contract import verdict
from cutaway.models.families import make_model


def test_the_models_are_equally_large():
    sizes = [sum(p.numel() for p in make_model(shape).parameters()) for shape in lab.MODELS.values()]
    assert max(sizes) < 1.1 * min(sizes)


def test_batches_are_copies_of_equally_many_tokens():
    batches = lab.copies([4, 16], seed=0)
    for length in (4, 16, 4):
        batch = next(batches)
        assert batch.source_BS.shape == (lab.TOKENS // length, length + 1)
        assert torch.equal(batch.source_BS, batch.targets_BT)


def test_an_untrained_model_copies_as_guessing_would():
    torch.manual_seed(0)
    assert lab.copied(make_model(lab.MODELS["transformer"]).eval(), 8, seed=0) < 0.2


def test_timing_leaves_no_gradient():
    model = make_model(lab.MODELS["rnn"])
    assert lab.tokens_per_s(model, 16, repeats=1) > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_transformer_that_is_no_faster_would_refute():
    numbers = {
        "speed_ratio": [1.0, 1.0],
        "copied_transformer": [1.0, 0.8],
        "copied_rnn": [0.8, 0.2],
        "copied_rnn_attention": [1.0, 0.9],
    }
    assert verdict(lab.LAB.checks, numbers)[0] == "refuted"
    assert verdict(lab.LAB.checks, {**numbers, "speed_ratio": [1.5, 7.0]})[0] == "qualified"
    assert (
        verdict(lab.LAB.checks, {**numbers, "speed_ratio": [1.5, 7.0], "copied_rnn_attention": [1, 0.2]})[0]
        == "supported"
    )
