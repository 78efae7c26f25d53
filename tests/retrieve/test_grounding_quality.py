"""How often the guide's questions are found, refused and answered, and which statements about a passage count as supported.

`questions.jsonl` (what a page says, and what none does) and `claims.jsonl` (true and false statements on a passage) were written
for this, by hand. One half (`tune`) is what thresholds were chosen on; these tests look at the other (`report`).
"""

import json
from pathlib import Path

import pytest
import torch

from cutaway.retrieve.answer import ground
from cutaway.retrieve.cite import attribute
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.index import Hit, Index


def labelled(name: str, language: str) -> list[dict]:
    rows = [json.loads(line) for line in (Path(__file__).parent / name).read_text().splitlines()]
    return [row for row in rows if row["part"] == "report" and row["language"] == language]


class WithoutVectors(Embedder):
    """Counts tokens as MiniLM does; Chinese is found by words alone."""

    def encode(self, texts, progress=None):
        return torch.zeros(len(texts), self.width)


@pytest.mark.parametrize(
    ("language", "encoder", "least_said"),
    [("zh", WithoutVectors, 13), pytest.param("en", Embedder, 12, marks=pytest.mark.slow)],
)
def test_questions_on_the_guide(minilm, root, tmp_path, language, encoder, least_said):
    pages = tmp_path / "pages"
    pages.mkdir()
    for page in (root / "docs" / "topics").glob(f"*.{language}.md"):
        (pages / page.name).symlink_to(page)
    index = Index.open(tmp_path / "index", encoder(str(minilm)))
    index.update(pages)
    rows = labelled("questions.jsonl", language)
    found = [(row, ground(row["question"], index)) for row in rows]
    held = [(row, one) for row, one in found if row["topics"]]
    assert all(any(int(hit.source[:2]) in row["topics"] for hit in one.passages) for row, one in held)
    said = [any(words in one.messages[-1]["content"] for words in row["says"]) for row, one in held]
    assert sum(said) >= least_said, "what answers the question is before the model"
    assert sum(not one.answerable for _, one in held) <= 2
    assert sum(one.answerable for row, one in found if not row["topics"]) <= 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_false_statements_are_seldom_supported(language):
    counts = {}
    for kind in ("holds", "does_not_hold"):
        judged = [
            sentence
            for row in labelled("claims.jsonl", language)
            for claim in row[kind]
            for sentence in attribute(claim, [Hit("", "", "", "", None, 0, len(row["passage"]), row["passage"])])
        ]
        counts[kind] = (sum(one.supported for one in judged), sum(bool(one.evidence) for one in judged), len(judged))
    (true, related, all_true), (false, _, all_false) = counts["holds"], counts["does_not_hold"]
    assert true >= all_true / 2, "half of the true ones are known to be so"
    assert related >= all_true - 1, "nearly all the true ones are led to their passage"
    assert false <= all_false / 3


@pytest.mark.parametrize("language", ["en", "zh"])
def test_quotations_are_supported_where_they_stand(language):
    for row in labelled("claims.jsonl", language):
        passage = row["passage"]
        for sentence in attribute(passage, [Hit("", "a.md", "", "", None, 100, 100 + len(passage), passage)]):
            assert sentence.supported
            assert (sentence.start + 100, sentence.end + 100) in {(one.start, one.end) for one in sentence.evidence}
