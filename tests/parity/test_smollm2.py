"""The real model beside its logits (those are compared in `packaged`): its tokeniser, and the order of its weights."""

import pytest
import torch
from transformers import AutoTokenizer

from cutaway.models.huggingface import save_model
from cutaway.models.load import load

TEXTS = ("The harbour was quiet, and", "def add(a, b):\n    return", "温度 is a number:  3.14\n\n")


@pytest.mark.slow
@torch.no_grad()
def test_the_folder_we_save_has_its_tokeniser_and_its_weights(smollm2, tmp_path):
    loaded = load(smollm2, dtype="float32", device="cpu")
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        ids = loaded.tokenizer.encode(text)
        assert ids == tokenizer(text, add_special_tokens=False).input_ids
    again = load(tmp_path / "saved", dtype="float32", device="cpu")
    assert all(map(torch.equal, loaded.model.parameters(), again.model.parameters()))


@pytest.mark.slow
@torch.no_grad()
def test_weights_are_in_the_right_order(smollm2):
    """A wrong permutation of q and k still gives finite logits; it does not give a language model."""
    loaded = load(smollm2, dtype="float32", device="cpu")
    ids = torch.tensor([loaded.tokenizer.encode("The capital of France is")])
    best = loaded.model.logits(loaded.model(ids))[0, -1].argmax().item()
    assert loaded.tokenizer.decode([best]).strip() == "Paris"
