"""From the user's files to a stream of training batches and a held-out part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.core.files import cache_dir
from cutaway.data.examples import OverLong
from cutaway.data.read import find_files, read_records
from cutaway.data.store import Store, file_key, open_store
from cutaway.data.stream import BatchStream
from cutaway.data.workers import WorkersConfig
from cutaway.text.tokenizer import Tokenizer


class DataConfig(Config):
    """Where the data is and how it becomes batches."""

    path: tuple[Path, ...] | Path = Field(
        description="file, folder or pattern, or several; text, JSONL, JSON or Parquet"
    )
    held_out: Path | None = Field(None, description="data to evaluate on; without it, a share of `path` is held out")
    held_out_share: float = Field(0.05, gt=0, lt=1, description="of the pieces, when `held_out` is not given")
    encoding: str = "utf-8"
    seq_len: int = Field(512, ge=2, description="positions per row")
    rows: int = Field(8, ge=1, description="rows per micro-batch")
    packing: bool = Field(True, description="several documents share a row, without attention between them")
    over_long: OverLong = Field("window", description="a record longer than seq_len: window, truncate, skip or error")
    cache: Path | None = Field(None, description="folder for encoded corpora; default: Cutaway's cache")


@dataclass(frozen=True)
class Corpus:
    """Training batches, and batches to evaluate on."""

    train: BatchStream
    held_out: BatchStream
    skipped: dict[str, dict]


def open_corpus(config: DataConfig, tokenizer: Tokenizer, seed: int) -> Corpus:
    """Read, encode (or find what was encoded before) and split.

    Raises:
        DataError, NothingSupervisedError, ConfigError: as the files and settings deserve.
    """
    store = _open(config, config.path, tokenizer)
    if config.held_out is not None:
        other = _open(config, config.held_out, tokenizer)
        train, held = np.arange(len(store)), np.arange(len(other))
    else:
        other = store
        train, held = split(store, config.held_out_share)
    pad = tokenizer.pad_id or 0

    def stream(source: Store, pieces: np.ndarray) -> BatchStream:
        return BatchStream(source, pieces, config.rows, config.seq_len, config.packing, seed, pad)

    return Corpus(stream(store, train), stream(other, held), store.skipped)


class EncodeConfig(DataConfig):
    """The data of a run, to be encoded before it; settings of batches may stand here and change nothing."""

    path: tuple[Path, ...] | Path = ()
    tokenizer: Path = Field(description="folder or file, the run's")
    workers: WorkersConfig = WorkersConfig()


def encode_corpus(config: EncodeConfig, tokenizer: Tokenizer) -> list[Store]:
    """Encode the data, and what is held out of it by name, for runs to find; stores that are there already are only opened.

    Raises:
        DataError, NothingSupervisedError, ResourceError: as the files and workers deserve.
    """
    paths = [path for path in (config.path, config.held_out) if path is not None]
    return [_open(config, path, tokenizer, config.workers) for path in paths]


def split(store: Store, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Pieces for training and pieces held out.

    A piece's own content decides (a hash), so that adding data never moves a piece from one side to the other. Of a corpus too
    small for that, the last piece is held out.

    Raises:
        ConfigError: there is one piece only.
    """
    if len(store) < 2:
        raise ConfigError(
            "the data makes one piece only, and none can be held out",
            field="data.path",
            hint="set data.held_out or a smaller data.seq_len",
        )
    hashes = np.array([xxhash.xxh3_64_intdigest(store.piece(i)[0].tobytes()) % 2**32 for i in range(len(store))])
    held = hashes < share * 2**32
    if held.all() or not held.any():
        held = np.arange(len(store)) == len(store) - 1
    return np.flatnonzero(~held), np.flatnonzero(held)


def _open(
    config: DataConfig, path: tuple[Path, ...] | Path, tokenizer: Tokenizer, workers: WorkersConfig = WorkersConfig()
) -> Store:
    files = find_files(path)
    folder = config.cache or cache_dir() / "corpora"
    records = read_records(files, config.encoding)
    key = [file_key(files), config.encoding]
    return open_store(records, key, tokenizer, config.seq_len, config.over_long, folder, workers)
