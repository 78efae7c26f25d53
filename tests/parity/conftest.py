"""Random small models with the same weights on both sides: ours, and transformers' (the reference)."""

import pytest
import torch
import transformers

from cutaway.models.huggingface import load_model


@pytest.fixture
def both(tmp_path):
    """`both("Llama", dict(...))` is (ours, theirs): transformers initialises and saves, we load the folder."""

    def make(architecture: str, config: object, seed: int = 0):
        torch.manual_seed(seed)
        theirs = getattr(transformers, architecture)(config).eval()
        for parameter in theirs.parameters():  # biases and norms too, so that none can be ignored unnoticed
            torch.nn.init.normal_(parameter, mean=0.02, std=0.15)
        folder = tmp_path / f"{architecture}-{seed}"
        theirs.save_pretrained(folder)
        return load_model(folder, torch.float32, torch.device("cpu")), theirs

    return make
