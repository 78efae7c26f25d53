"""Shortened vectors: what the projection keeps, and an index that shortens its own."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from cutaway.core.errors import ConfigError
from cutaway.retrieve.index import Index
from cutaway.retrieve.shrink import Projection, fit, neighbours_kept

ANIMALS, PLACES = ("owl", "fox", "hare", "mole", "stoat", "heron"), ("barn", "field", "marsh", "wood", "hill", "lane")


class Bag:
    """An encoder without a model: hashed bags of words."""

    name, width = "bag", 64

    def count(self, texts):
        return [len(text.split()) for text in texts]

    def encode(self, texts):
        vectors = torch.zeros(len(texts), self.width)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", " ").split():
                vectors[row, sum(word.encode()) % self.width] += 1
        return normalize(vectors, dim=-1)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for animal in ANIMALS:
        for place in PLACES:
            (folder / f"{animal}-{place}.txt").write_text(f"The {animal} sleeps near the {place}.")
    return folder


def test_vectors_in_a_plane_lose_nothing_in_two_dimensions():
    torch.manual_seed(0)
    x_ND = normalize(torch.randn(50, 2) @ torch.randn(2, 16), dim=-1)
    projection = fit(x_ND, 2)
    torch.testing.assert_close(projection(x_ND) @ projection(x_ND).T, x_ND @ x_ND.T, atol=1e-5, rtol=0)
    assert neighbours_kept(x_ND, projection) > 0.95  # opposite and equal vectors may change places
    assert neighbours_kept(x_ND, fit(x_ND, 1)) < 0.9


def test_a_projection_is_read_as_written(tmp_path: Path):
    projection = fit(torch.randn(9, 6), 3)
    projection.save(tmp_path)
    assert torch.equal(Projection.load(tmp_path).directions_KD, projection.directions_KD)


def test_an_index_shortens_its_vectors_once_there_are_enough(tmp_path: Path, docs: Path):
    place = tmp_path / "index"
    few = tmp_path / "few"
    few.mkdir()
    (few / "owl-barn.txt").write_text("The owl sleeps near the barn.")
    assert Index.open(place, Bag(), dimensions=9).update(few).dimensions == 64
    reader = Index.open(place, Bag())
    report = Index.open(place, Bag()).update(docs)  # goes on as it was made
    assert (report.passages, report.dimensions) == (36, 9)
    assert report.neighbours_kept is not None
    assert report.neighbours_kept > 0.5
    reader.refresh()
    assert len(reader) == 36
    for index in (reader, Index.open(place, Bag())):
        hits = index.search("The fox sleeps near the marsh.", k=1, mode="vector")
        assert hits[0].source == "fox-marsh.txt"
        assert hits[0].cosine == pytest.approx(1, abs=1e-2)


def test_a_writer_that_was_open_before_writes_shortened_vectors(tmp_path: Path, docs: Path):
    old = Index.open(tmp_path / "index", Bag(), dimensions=9)
    Index.open(tmp_path / "index", Bag()).update(docs)
    (docs / "new.txt").write_text("The heron sleeps near the field and the hill.")
    assert old.update(docs).added == ["new.txt"]
    assert len(Index.open(tmp_path / "index", Bag())) == 37


def test_a_shortened_index_takes_changes(tmp_path: Path, docs: Path):
    index = Index.open(tmp_path / "index", Bag(), dimensions=9)
    index.update(docs)
    (docs / "fox-marsh.txt").unlink()
    (docs / "new.txt").write_text("The heron sleeps near the field and the hill.")
    report = index.update(docs)
    assert (report.added, report.deleted, report.unchanged) == (["new.txt"], ["fox-marsh.txt"], 35)
    assert report.neighbours_kept is None
    assert report.dimensions == 9
    assert not (tmp_path / "index" / "lance").exists()
    assert index.search("heron near the field and the hill", k=1, mode="vector")[0].source == "new.txt"
    assert index.update(docs).unchanged == 36


@pytest.mark.parametrize("dimensions", [0, -3, 64, 1000])
def test_impossible_lengths_are_refused(tmp_path: Path, dimensions: int):
    with pytest.raises(ConfigError, match=f"dimensions.*{dimensions}"):
        Index.open(tmp_path / "index", Bag(), dimensions=dimensions)
    assert not (tmp_path / "index").exists()


def test_another_length_is_another_index(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    Index.open(tmp_path / "index", Bag(), dimensions=9).update(tmp_path / "docs")
    with pytest.raises(ConfigError, match="dimensions 9, not 8"):
        Index.open(tmp_path / "index", Bag(), dimensions=8)
