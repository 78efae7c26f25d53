"""The index: a folder that holds passages, their vectors and what they were made from.

    index = Index.open(Path("index"))
    index.update(Path("documents"))
    for hit in index.search("what does temperature do?", k=4): ...

A document counts as indexed when the commit with its passages is written. A kill loses at most the documents that were not
committed yet; the next `update` goes on with them.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import xxhash

from cutaway.core.errors import BusyError, ConfigError, CutawayError, DataError, RequestError, ResourceError
from cutaway.core.files import write_text
from cutaway.core.progress import Progress
from cutaway.retrieve.chunk import ChunkConfig, chunk
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import FullText, is_chinese
from cutaway.retrieve.fuse import reciprocal_rank_fusion
from cutaway.retrieve.load import Document, find_documents, parse, read_bytes, written
from cutaway.retrieve.shrink import Projection, check_dimensions, forget_whole, is_shrunk, open_store, shrink
from cutaway.retrieve.store import Store
from cutaway.retrieve.vectors import ExactVectors

Mode = Literal["hybrid", "vector", "text"]
EXACT_LIMIT = 250_000  # passages; above it LanceDB's approximate index searches
_ABOUT = "index.json"
_CANDIDATES = 100  # of each ranking, before fusion
_PASSAGES_PER_COMMIT = 256


@dataclass(frozen=True)
class Hit:
    """A passage that was found, where it stands, and why.

    Args:
        start, end: its place in the document's text, in characters.
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
    score: float = 0.0
    cosine: float | None = None
    bm25: float = 0.0


@dataclass
class UpdateReport:
    """What an update did, file by file; `skipped` says why."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    passages: int = 0
    dimensions: int = 0  # of the vectors
    neighbours_kept: float | None = None  # where this update shortened the vectors


class Index:
    """An open index. Reading needs no lock; one process at a time writes."""

    _version: int  # of the table, as it was read
    _store: Store
    _projection: Projection | None

    def __init__(self, folder: Path, embedder: Embedder, chunking: ChunkConfig, dimensions: int | None = None):
        self.folder, self.embedder, self.chunking, self.dimensions = folder, embedder, chunking, dimensions
        self._open_store()
        self.refresh()

    @classmethod
    def open(
        cls,
        folder: Path,
        embedder: Embedder | None = None,
        chunking: ChunkConfig | None = None,
        dimensions: int | None = None,
    ) -> "Index":
        """Open the index in `folder`, or begin an empty one; it is an index from its first update on.

        Args:
            dimensions: of the vectors that are searched. Shorter than the encoder's, they are found by `retrieve.shrink` once
                there are four times as many passages; until then they are whole. By default as the index was made, or whole.

        Raises:
            ConfigError: it was made with another embedding model, other passages or vectors; or no such vectors can be.
        """
        embedder, chunking = embedder or Embedder(), chunking or ChunkConfig()
        check_dimensions(dimensions, embedder.width)
        about = folder / _ABOUT
        if about.exists():
            made = _read_about(about)
            dimensions = made.get("dimensions") if dimensions is None else dimensions
            for name, mine in _about(embedder, chunking, dimensions).items():
                if made.get(name) != mine:
                    raise ConfigError(
                        f"was made with {name} {made.get(name)!r}, not {mine!r}",
                        field="index",
                        value=str(folder),
                        hint="use another folder, or index again into a new one",
                    )
        return cls(folder, embedder, chunking, dimensions)

    @classmethod
    def existing(cls, folder: Path, embedder: Embedder | None = None) -> "Index":
        """Open the index in `folder`, to search it.

        Raises:
            ConfigError: there is none, or as `open`.
        """
        if not (folder / _ABOUT).is_file():
            raise ConfigError(
                "holds no index", field="index", value=str(folder), hint=f"make one: cutaway index DIR --out {folder}"
            )
        return cls.open(folder, embedder)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sources(self) -> list[str]:
        """The documents in it."""
        return sorted({row["source"] for row in self._rows})

    @property
    def ids(self) -> list[str]:
        """Of every passage; `passage` gives it."""
        return list(self._by_id)

    def refresh(self) -> None:
        """See what other processes have written since."""
        if self._projection is None and is_shrunk(self.folder):
            self._open_store()
        if self._version == (version := self._store.version):
            return
        rows, vectors_ND = self._store.read()
        by_id = {row["id"]: number for number, row in enumerate(rows)}
        self._vectors, self._full_text = ExactVectors(vectors_ND), FullText([_context(row) for row in rows])
        self._version, self._rows, self._by_id = version, rows, by_id  # last: other threads look passages up meanwhile

    def update(self, documents: Path) -> UpdateReport:
        """Bring the index in line with a folder, or take in one file: new, changed and deleted documents.

        Raises:
            DataError: it does not exist, or is a single file that cannot be read.
            BusyError: another process is writing.
        """
        if not documents.exists():
            raise DataError("no such file or folder", field="documents", value=str(documents))
        report = UpdateReport()
        with self._writing():
            if not (self.folder / _ABOUT).exists():
                about = _about(self.embedder, self.chunking, self.dimensions)
                write_text(self.folder / _ABOUT, json.dumps(about, indent=1))
            self.refresh()
            if self._projection is not None:
                forget_whole(self.folder)
            known = self._store.documents()
            if documents.is_dir():
                files = {written(p.relative_to(documents)): p for p in find_documents(documents, report.skipped)}
            else:
                files = {written(Path(documents.name)): documents}
            pending: list[tuple[str, list[dict[str, Any]]]] = []
            with Progress("indexing", total=len(files), unit="file") as progress:
                for source, path in files.items():
                    try:
                        rows = self._changed_rows(source, path, known.get(source))
                    except CutawayError as err:
                        if documents.is_file():
                            raise
                        report.skipped[source] = f"{err.message}" + (f" ({err.hint})" if err.hint else "")
                    else:
                        if rows is None:
                            report.unchanged += 1
                        else:
                            (report.changed if source in known else report.added).append(source)
                            pending.append((source, rows))
                    if sum(len(rows) for _, rows in pending) >= _PASSAGES_PER_COMMIT:
                        self._commit(pending)
                        pending = []
                    progress.advance(skipped=len(report.skipped))
                self._commit(pending)
            if documents.is_dir():
                gone = sorted(known.keys() - files.keys())
                self._store.remove([*gone, *(report.skipped.keys() & known.keys())])
                report.deleted = gone
            if self._projection is None and self.dimensions is not None:
                report.neighbours_kept = shrink(self.folder, self._store, self.dimensions)
            if report.neighbours_kept is not None:
                self._open_store()
            if self._store.version != self._version:
                self._store.tidy(approximate=self._store.size > EXACT_LIMIT)
        self.refresh()
        report.passages, report.dimensions = len(self), self._vectors.full_ND.shape[1]
        return report

    def search(
        self, query: str, k: int = 4, mode: Mode = "hybrid", where: Mapping[str, str] | None = None
    ) -> list[Hit]:
        """The k best passages for a question, best first.

        Args:
            mode: vectors and words fused by reciprocal rank, or one of them alone. A Chinese question in hybrid mode is
                ranked by words alone, since the packaged encoder reads English.
            where: only passages whose field (source, title or heading) begins with the value.
        """
        if not query.strip():
            raise RequestError("is empty", field="query")
        if k < 1:
            raise RequestError("must be at least 1", field="k", value=k)
        if mode not in get_args(Mode):
            raise RequestError(
                "is no way to search", field="mode", value=mode, hint=f"known: {', '.join(get_args(Mode))}"
            )
        allowed = self._allowed(where or {})
        n = max(_CANDIDATES, k)
        with_vectors = mode == "vector" or (mode == "hybrid" and not is_chinese(query))
        query_D = self._encode([query])[0] if with_vectors else None
        near = [] if query_D is None else self._nearest(query_D, n, allowed)
        bm25 = {row: score for score, row in self._full_text.search(query, n, allowed)} if mode != "vector" else {}
        found = reciprocal_rank_fusion([near, list(bm25)])[:k]
        return [
            Hit(
                **self._rows[row],
                score=score,
                cosine=None if query_D is None else float(self._vectors.full_ND[row] @ query_D),
                bm25=bm25.get(row, 0.0),
            )
            for row, score in found
        ]

    def passage(self, id: str) -> Hit | None:
        """A passage by its id."""
        row = self._by_id.get(id)
        return None if row is None else Hit(**self._rows[row])

    def _nearest(self, query_D: torch.Tensor, k: int, allowed: np.ndarray | None) -> list[int]:
        if len(self) > EXACT_LIMIT and allowed is None:
            return [self._by_id[id] for id in self._store.nearest(query_D, k) if id in self._by_id]
        _, rows = self._vectors.search(query_D, k, None if allowed is None else torch.from_numpy(allowed))
        return rows.tolist()

    def _allowed(self, where: Mapping[str, str]) -> np.ndarray | None:
        for name in where:
            if name not in ("source", "title", "heading"):
                raise RequestError("cannot be filtered by", field="where", value=name, hint="source, title or heading")
        if not where:
            return None
        return np.array([all(row[name].startswith(value) for name, value in where.items()) for row in self._rows], bool)

    def _changed_rows(self, source: str, path: Path, content: str | None) -> list[dict[str, Any]] | None:
        """The passages of a file, without vectors; None when its content is the one that is indexed."""
        now = xxhash.xxh3_128_hexdigest(data := read_bytes(path, source))
        if now == content:
            return None
        return [{**row, "content": now} for row in self._passages(parse(data, path, source))]

    def _passages(self, document: Document) -> list[dict[str, Any]]:
        return [
            {
                "id": xxhash.xxh3_64_hexdigest(f"{document.source}\0{part.start}\0{part.text}".encode()),
                "source": document.source,
                "title": document.title,
                "heading": " › ".join(part.headings),
                "page": part.page,
                "start": part.start,
                "end": part.end,
                "text": part.text,
            }
            for part in chunk(document, self.embedder.count, self.chunking)
        ]

    def _commit(self, pending: list[tuple[str, list[dict[str, Any]]]]) -> None:
        """Make documents part of the index: in one step, their old passages go out and the new ones come in."""
        if not pending:
            return
        rows = [row for _, found in pending for row in found]
        vectors_ND = self._encode([_context(row) for row in rows])
        for row, vector in zip(rows, vectors_ND.numpy(), strict=True):
            row["vector"] = vector
        self._store.replace([source for source, _ in pending], rows)

    def _encode(self, texts: list[str]) -> torch.Tensor:
        vectors_ND = self.embedder.encode(texts)
        return vectors_ND if self._projection is None else self._projection(vectors_ND)

    def _open_store(self) -> None:
        self._version = -1  # nothing of it was read yet
        self._store, self._projection = open_store(self.folder, self.embedder.width)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            lock = (self.folder / "lock").open("w")
        except OSError as err:
            why = f"cannot be written: {err.strerror}"
            raise ResourceError(why, field="index", value=str(self.folder)) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError("another process is writing to it", field="index", value=str(self.folder)) from None
            yield


def _about(embedder: Embedder, chunking: ChunkConfig, dimensions: int | None) -> dict[str, Any]:
    """What passages and vectors are made with: those of one index with the same."""
    return {"embedder": embedder.name, "width": embedder.width, **chunking.model_dump(), "dimensions": dimensions}


def _read_about(file: Path) -> dict[str, Any]:
    try:
        made = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        made = None
    if not isinstance(made, dict):
        raise ConfigError("is damaged", field="index", value=str(file), hint="remove the folder and index again")
    return made


def _context(row: Mapping[str, Any]) -> str:
    """A passage with the headings it stands under, which often name what its sentences only call 'it'."""
    return "\n".join(filter(None, (row["heading"] or row["title"], row["text"])))
