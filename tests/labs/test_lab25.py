import pytest
import torch

from cutaway.labs import lab25_cross_entropy
from cutaway.labs.contract import verdict
from cutaway.labs.lab25_cross_entropy import LAB, squared_error


def test_the_alternative_is_what_it_says():
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    p = logits.softmax(-1)[0]
    expected = p[0] ** 2 + (p[1] - 1) ** 2 + p[2] ** 2
    assert squared_error(logits, torch.tensor([1])).item() == pytest.approx(expected.item())


def test_a_loss_that_teaches_worse_would_be_refuted(quick):
    numbers = {**quick(25), "final_cross_entropy_nats": 9.0}
    assert verdict(LAB.checks, numbers)[0] == "refuted"


def test_the_rate_is_picked_on_another_text_than_the_one_reported(monkeypatch):
    found = iter([(3.0, [1.0]), (1.0, [2.0]), (2.0, [0.5])])
    monkeypatch.setattr(lab25_cross_entropy, "_curve", lambda *_: next(found))
    assert lab25_cross_entropy._best_curve(squared_error, steps=5, seed=0) == [2.0]
