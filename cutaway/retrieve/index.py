"""The index: a folder that holds passages, their vectors and what they were made from.

    index = Index.open(Path("index"))
    index.update(Path("documents"))
    for hit in index.search("what does temperature do?", k=4): ...

LanceDB keeps the passages; every change of it is one atomic commit, and a document counts as indexed only when its entry in the
`documents` table is written, after its passages. A kill in between is mended by the next `update`.
"""

import fcntl
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xxhash

from cutaway.core.errors import BusyError, ConfigError, CutawayError, DataError
from cutaway.core.files import write_text
from cutaway.core.progress import Progress
from cutaway.retrieve.chunk import chunk
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import FullText
from cutaway.retrieve.fuse import reciprocal_rank_fusion
from cutaway.retrieve.load import Document, find_documents, load_document
from cutaway.retrieve.vectors import ExactVectors

Mode = Literal["hybrid", "vector", "text"]
EXACT_LIMIT = 250_000  # passages; above it LanceDB's approximate index searches
SIZE, OVERLAP = 160, 30  # tokens per passage, and shared between neighbours
_CANDIDATES = 100  # of each ranking, before fusion
_DOCUMENTS_PER_COMMIT = 64


@dataclass(frozen=True)
class Hit:
    """A passage that was found, where it stands, and why.

    Args:
        score: the fused score, for ordering only.
        cosine: similarity of question and passage vectors; None when only words were searched.
        bm25: score of the words; 0 when none matched.
    """

    id: str
    source: str
    title: str
    heading: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    cosine: float | None
    bm25: float


@dataclass
class UpdateReport:
    """What an update did, file by file; `skipped` says why."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    passages: int = 0


class Index:
    """An open index. Reading needs no lock; one process at a time writes."""

    def __init__(self, folder: Path, embedder: Embedder):
        import lancedb

        self.folder, self.embedder = folder, embedder
        self._database = lancedb.connect(str(folder / "lance"))
        self._refresh()

    @classmethod
    def open(cls, folder: Path, embedder: Embedder | None = None) -> "Index":
        """Open the index in `folder`, or begin an empty one.

        Raises:
            ConfigError: it was made with another embedding model.
        """
        embedder = embedder or Embedder()
        about = folder / "index.json"
        mine = {"embedder": embedder.name, "width": embedder.width, "size": SIZE, "overlap": OVERLAP}
        if about.exists():
            made = json.loads(about.read_text())
            if made != mine:
                raise ConfigError(
                    f"was made with {made} and would be read with {mine}",
                    field="index",
                    value=str(folder),
                    hint="use another folder",
                )
        else:
            write_text(about, json.dumps(mine, indent=1))
        return cls(folder, embedder)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sources(self) -> list[str]:
        """The documents in it."""
        return sorted(self._documents())

    def update(self, documents: Path) -> UpdateReport:
        """Bring the index in line with a folder (or one file): new, changed and deleted documents.

        Raises:
            DataError: the folder does not exist, or a single file cannot be read.
            BusyError: another process is writing.
        """
        report = UpdateReport()
        with self._writing():
            known = self._documents()
            root = documents if documents.is_dir() else documents.parent
            files = {
                path.relative_to(root).as_posix(): path
                for path in find_documents(documents, lambda name, why: report.skipped.update({name: why}))
            }
            gone = [source for source in known if source not in files]
            pending: list[tuple[Document, str]] = []
            with Progress("indexing", total=len(files), unit="file") as progress:
                for source, path in files.items():
                    self._look_at(source, path, known, pending, report, single=documents.is_file())
                    if len(pending) >= _DOCUMENTS_PER_COMMIT:
                        self._commit(pending, progress)
                        pending = []
                    progress.advance()
                self._commit(pending, progress)
            if documents.is_dir():
                self._delete(gone + [source for source in report.skipped if source in known])
                report.deleted = gone
            if report.added or report.changed or report.deleted:
                self._tidy()
        self._refresh()
        report.passages = len(self)
        return report

    def search(
        self, query: str, k: int = 4, mode: Mode = "hybrid", where: Mapping[str, str] | None = None
    ) -> list[Hit]:
        """The k best passages for a question, best first.

        Args:
            mode: vectors and words fused by reciprocal rank, or one of them alone.
            where: only passages whose field (source, title or heading) begins with the value.
        """
        if not query.strip():
            raise DataError("is empty", field="query")
        allowed = self._allowed(where or {})
        cosine: dict[int, float] = {}
        bm25: dict[int, float] = {}
        if mode != "text":
            query_D = self.embedder.encode([query])[0]
            cosine = self._nearest(query_D, max(_CANDIDATES, k), allowed)
        if mode != "vector":
            bm25 = {row: score for score, row in self._full_text.search(query, max(_CANDIDATES, k), allowed)}
        rankings = [list(found) for found in (cosine, bm25) if found]
        best = reciprocal_rank_fusion(rankings)[:k]
        if mode != "text":
            for row, _ in best:
                if row not in cosine:
                    cosine[row] = float(self._vector(row) @ query_D)
        return [self._hit(row, score, cosine.get(row), bm25.get(row, 0.0)) for row, score in best]

    def passage(self, id: str) -> Hit | None:
        """A passage by its id."""
        row = self._by_id.get(id)
        return None if row is None else self._hit(row, 0.0, None, 0.0)

    # Reading

    def _refresh(self) -> None:
        self._rows: list[dict[str, Any]] = []
        vectors_ND = torch.empty(0, self.embedder.width)
        if "passages" in self._names():
            table = self._database.open_table("passages").to_arrow()
            column = table.column("vector").combine_chunks()
            flat = column.values.to_numpy(zero_copy_only=False) if len(table) else np.empty(0, np.float32)
            vectors_ND = torch.from_numpy(flat.reshape(len(table), self.embedder.width).copy())
            self._rows = table.drop_columns(["vector"]).to_pylist()
        self._by_id = {row["id"]: number for number, row in enumerate(self._rows)}
        self._vectors = ExactVectors(vectors_ND)
        self._full_text = FullText([f"{row['title']} {row['heading']} {row['text']}" for row in self._rows])

    def _vector(self, row: int) -> torch.Tensor:
        return self._vectors.full_ND[row]

    def _nearest(self, query_D: torch.Tensor, k: int, allowed: np.ndarray | None) -> dict[int, float]:
        if len(self) <= EXACT_LIMIT or allowed is not None:
            scores, rows = self._vectors.search(query_D, k, None if allowed is None else torch.from_numpy(allowed))
            return dict(zip(rows.tolist(), scores.tolist(), strict=True))
        found = (
            self._database.open_table("passages")
            .search(query_D.tolist())
            .distance_type("dot")
            .nprobes(64)
            .refine_factor(10)
            .select(["id"])
            .limit(k)
            .to_list()
        )
        rows = [self._by_id[item["id"]] for item in found]
        return {row: float(self._vector(row) @ query_D) for row in rows}

    def _allowed(self, where: Mapping[str, str]) -> np.ndarray | None:
        for name in where:
            if name not in ("source", "title", "heading"):
                raise DataError("cannot be filtered by", field="where", value=name, hint="source, title or heading")
        if not where:
            return None
        return np.array([all(row[name].startswith(value) for name, value in where.items()) for row in self._rows], bool)

    def _hit(self, row: int, score: float, cosine: float | None, bm25: float) -> Hit:
        fields = {name: value for name, value in self._rows[row].items()}
        return Hit(**fields, score=score, cosine=cosine, bm25=bm25)

    # Writing

    def _look_at(
        self,
        source: str,
        path: Path,
        known: Mapping[str, str],
        pending: list[tuple[Document, str]],
        report: UpdateReport,
        single: bool,
    ) -> None:
        try:
            content = xxhash.xxh3_128_hexdigest(path.read_bytes())
            if known.get(source) == content:
                report.unchanged += 1
                return
            pending.append((load_document(path, source), content))
        except (CutawayError, OSError) as err:
            if single:
                raise
            report.skipped[source] = err.message if isinstance(err, CutawayError) else (err.strerror or str(err))
            return
        (report.changed if source in known else report.added).append(source)

    def _commit(self, pending: list[tuple[Document, str]], progress: Progress) -> None:
        """Make documents part of the index: old passages out, new ones in, then the entries that acknowledge them."""
        if not pending:
            return
        rows = [row for document, _ in pending for row in self._passages(document)]
        sources = [document.source for document, _ in pending]
        self._delete(sources)
        vectors_ND = self.embedder.encode([f"{row['title']}. {row['heading']}\n{row['text']}" for row in rows])
        for row, vector in zip(rows, vectors_ND.tolist(), strict=True):
            row["vector"] = vector
        self._add("passages", rows)
        self._add("documents", [{"source": document.source, "content": content} for document, content in pending])

    def _passages(self, document: Document) -> list[dict[str, Any]]:
        found = []
        for part in chunk(document.text, self.embedder.count, SIZE, OVERLAP):
            text = document.text[part.start : part.end]
            found.append(
                {
                    "id": xxhash.xxh3_64_hexdigest(f"{document.source}\0{part.start}\0{text}".encode()),
                    "source": document.source,
                    "title": document.title,
                    "heading": part.heading,
                    "page": document.page(part.start),
                    "start": part.start,
                    "end": part.end,
                    "text": text,
                }
            )
        return found

    def _add(self, name: str, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        text = pa.string()
        schema = {
            "passages": pa.schema(
                [
                    *[pa.field(column, text) for column in ("id", "source", "title", "heading")],
                    pa.field("page", pa.int64()),
                    pa.field("start", pa.int64()),
                    pa.field("end", pa.int64()),
                    pa.field("text", text),
                    pa.field("vector", pa.list_(pa.float32(), self.embedder.width)),
                ]
            ),
            "documents": pa.schema([pa.field("source", text), pa.field("content", text)]),
        }[name]
        table = pa.Table.from_pylist(rows, schema=schema)
        if name in self._names():
            self._database.open_table(name).add(table)
        else:
            self._database.create_table(name, data=table)

    def _delete(self, sources: list[str]) -> None:
        """Take documents out, their entries first: without an entry, leftover passages are made again or removed."""
        for name in ("documents", "passages"):
            if name in self._names():
                for start in range(0, len(sources), 100):
                    quoted = ", ".join("'" + source.replace("'", "''") + "'" for source in sources[start : start + 100])
                    self._database.open_table(name).delete(f"source IN ({quoted})")

    def _tidy(self) -> None:
        """Passages without an entry (a kill came between) go; many small commits become one; big indices get an ANN index."""
        known = self._documents()
        if "passages" not in self._names():
            return
        table = self._database.open_table("passages")
        strays = set(table.to_arrow().column("source").to_pylist()) - set(known)
        self._delete(sorted(strays))
        table = self._database.open_table("passages")
        table.optimize()
        if table.count_rows() > EXACT_LIMIT:
            table.create_index(metric="dot", vector_column_name="vector", replace=True)

    def _documents(self) -> dict[str, str]:
        if "documents" not in self._names():
            return {}
        table = self._database.open_table("documents").to_arrow()
        return dict(zip(table.column("source").to_pylist(), table.column("content").to_pylist(), strict=True))

    def _names(self) -> list[str]:
        return list(self._database.list_tables().tables)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError("another process is writing to it", field="index", value=str(self.folder)) from None
            yield


def to_dict(hit: Hit) -> dict[str, Any]:
    """A hit as plain values."""
    return asdict(hit)


logging.getLogger("bm25s").setLevel(logging.WARNING)
