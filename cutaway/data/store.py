"""A corpus as tokens on disk: encoded once, found again by what it was made from, read without loading it.

A store is a folder with `ids.npy` and `learned.npy` (all pieces end to end) and `starts.npy` (where each begins). A piece fits a
row: at most seq_len + 1 tokens.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from cutaway.core.errors import NothingSupervisedError
from cutaway.core.files import alone_with, new_folder, recover_folder
from cutaway.core.progress import Progress
from cutaway.data.examples import Example, OverLong, RecordEncoder, Skipped, cut
from cutaway.data.read import Record
from cutaway.data.workers import WorkersConfig, in_order
from cutaway.text.tokenizer import Tokenizer


class Store:
    """Pieces of tokens, opened by memory map."""

    def __init__(self, folder: Path):
        self.ids = np.load(folder / "ids.npy", mmap_mode="r")
        self.learned = np.load(folder / "learned.npy", mmap_mode="r")
        self.starts = np.load(folder / "starts.npy")
        self.skipped = json.loads((folder / "skipped.json").read_text())

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Positions that each piece takes in a row: its tokens but the last, which is only a target."""
        return np.diff(self.starts) - 1

    @property
    def tokens(self) -> int:
        """All tokens."""
        return int(self.starts[-1])

    def piece(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids, and which of them are learned."""
        start, stop = self.starts[index], self.starts[index + 1]
        return self.ids[start:stop], self.learned[start:stop]


def open_store(
    records: Iterable[Record],
    key: object,
    tokenizer: Tokenizer,
    seq_len: int,
    over_long: OverLong,
    folder: Path,
    workers: WorkersConfig = WorkersConfig(),
) -> Store:
    """The store under `folder` for this key and these settings; made when it is not there, by one of those that want it.

    Args:
        key: whatever the records depend on (file names, sizes, times); plain values.
        workers: who encodes; the store is the same.

    Raises:
        NothingSupervisedError: no piece has a token to learn.
    """
    recipe = json.dumps(
        [
            *(key, seq_len, over_long),
            *(tokenizer.backend.to_str(), tokenizer.tokens, tokenizer.adds_bos, tokenizer.chat_template),
        ]
    )
    path = folder / xxhash.xxh3_128_hexdigest(recipe.encode())
    if not path.exists():
        with alone_with(path):
            recover_folder(path)
            if not path.exists():
                _write(records, tokenizer, seq_len, over_long, path, workers)
    return Store(path)


def file_key(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of files: a change in any of them makes a new store."""
    return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _write(
    records: Iterable[Record],
    tokenizer: Tokenizer,
    seq_len: int,
    over_long: OverLong,
    path: Path,
    workers: WorkersConfig,
) -> None:
    skipped, lengths = Skipped(), [0]
    learned_any = False
    with new_folder(path) as temporary:
        with (
            (temporary / "ids.raw").open("wb") as ids_file,
            (temporary / "learned.raw").open("wb") as learned_file,
            Progress("encoding", unit="piece") as progress,
        ):
            for example in _encoded(records, tokenizer, skipped, workers):
                for piece in cut(example, seq_len, over_long, skipped):
                    if len(piece.ids) < 2 or not piece.learned[1:].any():
                        skipped.add("with nothing to learn", example.where)
                        continue
                    learned_any = True
                    ids_file.write(piece.ids.astype(np.int32).tobytes())
                    learned_file.write(piece.learned.astype(bool).tobytes())
                    lengths.append(len(piece.ids))
                    progress.advance()
        if not learned_any:
            raise NothingSupervisedError("the data holds no token to learn", field="data", hint=str(skipped) or None)
        for name, dtype in (("ids", np.int32), ("learned", bool)):
            raw = temporary / f"{name}.raw"
            np.save(temporary / f"{name}.npy", np.memmap(raw, dtype=dtype, mode="r"))
            raw.unlink()
        np.save(temporary / "starts.npy", np.array(list(itertools.accumulate(lengths)), dtype=np.int64))
        (temporary / "skipped.json").write_text(json.dumps(skipped.report()))


def _encoded(
    records: Iterable[Record], tokenizer: Tokenizer, skipped: Skipped, workers: WorkersConfig
) -> Iterator[Example]:
    for examples, left_out in in_order(RecordEncoder(tokenizer), records, workers):
        skipped.merge(left_out)
        yield from examples
