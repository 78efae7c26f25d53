"""The passages on disk: one LanceDB table, in which every change of a set of documents is one atomic commit.

A kill at any moment leaves the table as before or after a commit, so a document's passages are always those of one version
of it, and all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core.errors import ConfigError, ResourceError

_TABLE = "passages"


class Store:
    """The table in `folder`, made when it is first written.

    Args:
        width: D, the length of the vectors.

    Raises:
        ResourceError: no folder can be there. ConfigError, from every method: files of it are missing or damaged.
    """

    def __init__(self, folder: Path, width: int):
        import lancedb
        import pyarrow as pa

        try:
            self._database = lancedb.connect(str(folder))
        except OSError as err:
            why = f"cannot be written: {err.strerror}"
            raise ResourceError(why, field="index", value=str(folder)) from None
        text, number = pa.string(), pa.int64()
        columns = {"id": text, "source": text, "title": text, "heading": text, "page": number, "start": number}
        columns |= {"end": number, "text": text, "content": text, "vector": pa.list_(pa.float32(), width)}
        self._folder = folder
        self._schema = pa.schema(list(columns.items()))
        self._width = width

    @property
    def version(self) -> int:
        """Grows with every commit; 0 when nothing was written yet."""
        table = self._table()
        return 0 if table is None else int(table.version)

    @property
    def size(self) -> int:
        """How many passages there are."""
        table = self._table()
        return 0 if table is None else int(table.count_rows())

    def documents(self) -> dict[str, str]:
        """The source of every document, and the hash of the content that its passages are of."""
        table = self._table()
        if table is None:
            return {}
        pairs = table.search().select(["source", "content"]).limit(table.count_rows()).to_arrow()
        return dict(zip(pairs.column("source").to_pylist(), pairs.column("content").to_pylist(), strict=True))

    def read(self) -> tuple[list[dict[str, Any]], Tensor]:
        """Every passage, and their vectors (N × D)."""
        table = self._table()
        if table is None:
            return [], torch.empty(0, self._width)
        with self._damage_is_said():
            found = table.to_arrow()
        flat = found.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = np.array(flat, np.float32).reshape(len(found), self._width)
        return found.drop_columns(["vector", "content"]).to_pylist(), torch.from_numpy(vectors)

    def replace(self, sources: Sequence[str], rows: list[dict[str, Any]]) -> None:
        """In one commit: the passages of `sources` go, `rows` (with `vector` and `content`) come."""
        import pyarrow as pa

        new = pa.Table.from_pylist(rows, schema=self._schema)
        table = self._table()
        if table is None:
            self._database.create_table(_TABLE, data=new)
            return
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.when_not_matched_by_source_delete(_among(sources)).execute(new)

    def remove(self, sources: Sequence[str]) -> None:
        """In one commit: the passages of `sources` go."""
        table = self._table()
        if table is not None and sources:
            table.delete(_among(sources))

    def copy_to(self, folder: Path, width: int, change: Callable[[Tensor], Tensor]) -> None:
        """The same passages in a new table, each vector changed to one of another width."""
        import lancedb
        import pyarrow as pa

        _, vectors_ND = self.read()
        passages = self._table().to_arrow()
        flat = pa.array(change(vectors_ND).numpy().reshape(-1))
        place = passages.schema.get_field_index("vector")
        shorter = passages.set_column(place, "vector", pa.FixedSizeListArray.from_arrays(flat, width))
        lancedb.connect(str(folder)).create_table(_TABLE, data=shorter)

    def tidy(self, approximate: bool) -> None:
        """Join small pieces, drop old versions after a day (readers may hold them), and make the approximate index if asked."""
        table = self._table()
        if table is None:
            return
        if approximate:
            table.create_index(metric="dot", vector_column_name="vector", replace=True)
        table.optimize()

    def nearest(self, query_D: Tensor, k: int) -> list[str]:
        """The ids of about the `k` nearest passages, by the approximate index; the candidates are compared in full."""
        table = self._table()
        if table is None:
            return []
        query = table.search(query_D.tolist()).distance_type("dot").nprobes(64).refine_factor(10)
        return [row["id"] for row in query.select(["id", "_distance"]).limit(k).to_list()]

    def _table(self) -> Any:
        with self._damage_is_said():
            return self._database.open_table(_TABLE) if _TABLE in self._database.list_tables().tables else None

    @contextmanager
    def _damage_is_said(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, OSError) as err:  # LanceDB raises all of them
            why, mend = f"is damaged: {str(err).splitlines()[0]}", "remove the folder and index again"
            raise ConfigError(why, field="index", value=str(self._folder), hint=mend) from None


def _among(sources: Sequence[str]) -> str:
    return "source IN (" + ", ".join("'" + source.replace("'", "''") + "'" for source in sources) + ")"
