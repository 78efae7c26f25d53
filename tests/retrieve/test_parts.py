"""Passages, fusion, full text and vectors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.retrieve.chunk import ChunkConfig, chunk
from cutaway.retrieve.full_text import FullText, coverage, is_chinese, terms
from cutaway.retrieve.fuse import reciprocal_rank_fusion, weighted_fusion
from cutaway.retrieve.load import Document, markdown_sections
from cutaway.retrieve.vectors import ExactVectors
from cutaway.text.sentences import sentences


def count(texts):
    return [len(text.split()) + sum(char > "\u3000" for char in text) for text in texts]


TEXTS = st.text(st.sampled_from('ab. \n#!?。！温度"” '), max_size=400)


@given(TEXTS, st.integers(8, 40), st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_passages_are_their_place_and_lose_nothing(text: str, size: int, overlap: int):
    document = Document("x", "x", text, markdown_sections(text))
    found = chunk(document, count, ChunkConfig(size=size, overlap=overlap))
    covered = set()
    for one in found:
        assert text[one.start : one.end] == one.text != ""
        covered |= set(range(one.start, one.end))
    for section in document.sections:
        assert all(text[i].isspace() or i in covered for i in range(section.start, section.end))


def test_size_and_overlap():
    text = " ".join(f"Sentence number {i} is here." for i in range(30))
    found = chunk(Document("x", "x", text, markdown_sections(text)), count, ChunkConfig(size=20, overlap=5))
    assert all(count([one.text])[0] <= 20 for one in found)
    assert all(b.start < a.end for a, b in pairwise(found))


def test_long_run_without_spaces_falls_apart():
    text = "温" * 100
    found = chunk(Document("x", "x", text, markdown_sections(text)), count, ChunkConfig(size=40, overlap=0))
    assert "".join(one.text for one in found) == text
    assert len(found) > 1


def test_chinese_sentences():
    text = "温度升高。分布变平！对吗？是的"
    assert [text[a:b] for a, b in sentences(text)] == ["温度升高。", "分布变平！", "对吗？", "是的"]


def test_impossible_overlap():
    with pytest.raises(ConfigError, match="less than size"):
        make_config(ChunkConfig, {"size": 10, "overlap": 10})


def test_fusion():
    fused = reciprocal_rank_fusion([["a", "b"], ["b"]], k=60)
    assert fused == [("b", pytest.approx(1 / 62 + 1 / 61)), ("a", pytest.approx(1 / 61))]
    assert weighted_fusion([{1: 2.0}], [0.3]) == [(1, 0.3)]
    assert reciprocal_rank_fusion([[], []]) == []


def test_full_text_english_and_chinese():
    texts = ["The cat sat on the mat.", "温度越高，分布越平。", "Cats and dogs.", ""]
    index = FullText(texts)
    assert {row for _, row in index.search("cat", 4)} == {0, 2}
    assert [row for _, row in index.search("温度", 4)] == [1]
    assert index.search("zebra", 4) == []
    assert [row for _, row in index.search("cat", 4, np.array([False, True, True, True]))] == [2]
    assert FullText([]).search("cat", 4) == []
    assert coverage(terms("how is the cat?"), terms(texts[0])) == 1.0
    assert is_chinese("温度 temperature") is False
    assert is_chinese("什么是温度 top")


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("spread", ["even", "crowded", "one large part"])
@pytest.mark.parametrize("in_int8", [True, False])
def test_exact_vectors_equal_brute_force(k: int, spread: str, in_int8: bool, monkeypatch):
    """With vectors in all directions, in a narrow cone, and with one dimension that takes most of the 8 bits."""
    torch.manual_seed(0)
    points = torch.randn(5030, 64)
    points[:, 0] = {"even": points[:, 0], "crowded": 20.0, "one large part": 50 * points[:, 0]}[spread]
    vectors, queries = torch.nn.functional.normalize(points, dim=-1).split([5000, 30])
    if not in_int8:
        monkeypatch.setattr("cutaway.retrieve.vectors.multiplies_int8", lambda D, device: False)
    index = ExactVectors(vectors)
    for query in queries:
        scores, rows = index.search(query, k)
        expected = (vectors @ query).topk(k)
        assert set(rows.tolist()) == set(expected.indices.tolist())
        torch.testing.assert_close(scores, expected.values, atol=1e-5, rtol=0)


def test_vectors_filter_and_small_sets():
    index = ExactVectors(torch.eye(3))
    assert index.search(torch.eye(3)[0], 5, torch.tensor([False, True, False]))[1].tolist() == [1]
    assert index.search(torch.eye(3)[0], 1)[1].tolist() == [0]
    assert ExactVectors(torch.empty(0, 3)).search(torch.eye(3)[0], 2)[1].tolist() == []
