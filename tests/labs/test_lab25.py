import pytest
import torch

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
