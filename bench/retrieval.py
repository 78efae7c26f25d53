"""Ranking quality on Cranfield, and exact search at 100,000 × 384 beside NumPy and LanceDB.

Cranfield's 1,400 abstracts and 225 queries, each abstract one passage of title and text; the peer is rank-bm25 on the same terms.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.harness import Row, compare
from cutaway.evaluate.retrieval import summary
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import FullText, terms
from cutaway.retrieve.fuse import reciprocal_rank_fusion
from cutaway.retrieve.vectors import ExactVectors

DATA = Path(os.environ.get("CUTAWAY_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "cranfield"
N, D, QUERIES, DEPTH = 100_000, 384, 20, 100


def run(rounds: int = 5) -> list[Row]:
    return [*(_cranfield() if DATA.is_dir() else []), *_speed(rounds)]


def _cranfield() -> list[Row]:
    texts, queries, relevance = read_cranfield(DATA)
    peer = _rank_bm25(texts)
    full_text, embedder = FullText(texts), Embedder()
    vectors = ExactVectors(embedder.encode(texts))
    query_vectors = embedder.encode(list(queries.values()))
    words = {q: [row for _, row in full_text.search(text, DEPTH)] for q, text in queries.items()}
    near = {q: vectors.search(v, DEPTH)[1].tolist() for q, v in zip(queries, query_vectors, strict=True)}
    fused = {q: [row for row, _ in reciprocal_rank_fusion([near[q], words[q]])] for q in queries}
    others = {q: peer(text) for q, text in queries.items()}
    score = {
        name: summary(found, relevance)["ndcg@10"]
        for name, found in {"text": words, "vectors": near, "hybrid": fused, "peer": others}.items()
    }
    return [
        Row("Cranfield, BM25", score["text"], score["peer"], "rank-bm25, same terms", "nDCG@10"),
        Row("Cranfield, vectors", score["vectors"], score["peer"], "rank-bm25, same terms", "nDCG@10"),
        Row("Cranfield, hybrid", score["hybrid"], None, None, "nDCG@10", goal=0.43),
    ]


def read_cranfield(folder: Path) -> tuple[list[str], dict[str, str], dict[str, dict[int, float]]]:
    """Texts; queries and judgements by the query's position, which is how the judgements count. Passages count from 0."""
    documents = (folder / "cran.all.1400.xml").read_text()
    texts = [
        "\n".join(part.strip() for part in re.findall(r"<(?:title|text)>(.*?)</(?:title|text)>", found, re.S))
        for found in re.findall(r"<doc>(.*?)</doc>", documents, re.S)
    ]
    asked = re.findall(r"<title>(.*?)</title>", (folder / "cran.qry.xml").read_text(), re.S)
    relevance: dict[str, dict[int, float]] = {}
    for line in (folder / "cranqrel.trec.txt").read_text().splitlines():
        query, _, document, grade = line.split()
        relevance.setdefault(query, {})[int(document) - 1] = float(grade)
    return texts, {str(i): text.strip() for i, text in enumerate(asked, 1)}, relevance


def _rank_bm25(texts: list[str]) -> Callable[[str], list[int]]:
    from rank_bm25 import BM25Okapi

    peer = BM25Okapi([terms(text) for text in texts])
    return lambda query: np.argsort(-peer.get_scores(terms(query)))[:DEPTH].tolist()


def _speed(rounds: int) -> list[Row]:
    import lancedb
    import pyarrow as pa

    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(N, D), dim=-1)
    queries = torch.nn.functional.normalize(torch.randn(QUERIES, D), dim=-1)
    ours, array = ExactVectors(vectors), vectors.numpy()

    def numpy_search(query: torch.Tensor) -> np.ndarray:
        scores = array @ query.numpy()
        top = np.argpartition(-scores, 10)[:10]
        return top[np.argsort(-scores[top])]

    recalled = [set(ours.search(q, 10)[1].tolist()) == set(numpy_search(q).tolist()) for q in queries]
    with tempfile.TemporaryDirectory() as folder:
        column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), D)
        table = lancedb.connect(folder).create_table("v", data=pa.table({"vector": column}))
        peers = {
            "NumPy float32": numpy_search,
            "LanceDB flat": lambda q: table.search(q.numpy()).distance_type("dot").limit(10).to_arrow(),
        }
        rows = [
            compare(
                f"exact search, {N:,} x {D}",
                lambda: _per_second(lambda q: ours.search(q, 10), queries),
                lambda peer=peer: _per_second(peer, queries),
                name,
                "queries/s",
                rounds=rounds,
            )
            for name, peer in peers.items()
        ]
    return [*rows, Row("exact search, recall@10", sum(recalled) / QUERIES, None, None, "share", goal=1.0)]


def _per_second(search: Callable[[torch.Tensor], object], queries: torch.Tensor) -> float:
    started = time.perf_counter()
    for query in queries:
        search(query)
    return len(queries) / (time.perf_counter() - started)
