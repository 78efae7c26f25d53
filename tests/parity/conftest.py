"""Random small models with the same weights on both sides: ours, and transformers' (the reference)."""

import pytest
import torch

from tests.parity.sides import same_weights


@pytest.fixture
def both(tmp_path):
    """`both("LlamaForCausalLM", config)` is (ours, theirs): transformers initialises and saves, we load the folder."""

    def make(architecture: str, config: object):
        torch.manual_seed(0)
        return same_weights((architecture, config), tmp_path)

    return make
