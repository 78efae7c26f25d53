"""Lab 27: its measures on models where the answer is known."""

import pytest
import torch

from cutaway.labs import lab27_jacobian as lab
from cutaway.lens.jacobian import Cut

IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


def test_blocks_that_add_nothing_keep_every_direction():
    model = lab.decoder(seed=0, depth=3)
    for block in model.blocks:
        for weight in block.parameters():
            torch.nn.init.zeros_(weight)
    found = lab.spectra(model, IDS)
    assert found["largest"] == pytest.approx([0, 0, 0])
    assert found["median"] == pytest.approx([0, 0, 0])
    assert found["directions"] == pytest.approx([IDS.numel() * lab.WIDTH] * 3)


def test_both_ways_back_are_autograd_s():
    assert max(lab.chain_errors(lab.decoder(seed=1, depth=2), IDS)) < 1e-12


def test_a_linear_function_has_no_error_and_a_curved_one_little():
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    assert lab.linear_error(Cut(lambda x: 3 * x, x)) < 1e-9
    assert lab.linear_error(Cut(lambda x: x**3, x), reach=0.1) > 1e-3
