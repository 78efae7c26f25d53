"""Sentence vectors equal transformers' by the published recipe."""

from pathlib import Path

import pytest
import torch

from cutaway.retrieve.embed import Embedder


@pytest.fixture(scope="module")
def embedder(minilm: Path) -> Embedder:
    return Embedder()


def test_equal_to_the_reference(embedder: Embedder, minilm: Path):
    from transformers import AutoModel, AutoTokenizer

    texts = ["A wing in a slipstream.", "one", "Long text. " * 150, "温度越高，分布越平。", ""]
    model, tokenizer = AutoModel.from_pretrained(minilm).eval(), AutoTokenizer.from_pretrained(minilm)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(embedder.encode(texts), expected, atol=1e-4, rtol=0)


def test_no_texts_and_counts(embedder: Embedder):
    assert embedder.encode([]).shape == (0, 384)
    assert embedder.count(["one two", ""]) == [2, 0]
