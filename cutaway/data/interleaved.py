"""From rows of interleaved parts to batches: checked, split, packed, and decoded when they are needed.

B rows, T positions, F numbers of a medium's position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import DataError, NothingSupervisedError
from cutaway.core.progress import Progress
from cutaway.data.batch import Batch
from cutaway.data.examples import Skipped
from cutaway.data.parts import Piece, Row, encode_row, read_rows
from cutaway.data.rows import RecordsConfig, sides
from cutaway.data.store import Store
from cutaway.data.stream import BatchStream
from cutaway.nn.media import MediaConfig
from cutaway.text.tokenizer import Tokenizer


class InterleavedConfig(RecordsConfig):
    """Where the rows are, a list of parts each (data.parts), and how they become batches; files are held out, not rows."""

    seq_len: int = Field(256, ge=2, description="positions per row; a patch or a few mel frames take one")
    rows: int = Field(16, ge=1, description="rows per micro-batch")
    packing: bool = Field(True, description="several rows share one, without attention between them")
    bad: Literal["error", "skip"] = Field("error", description="rows that are empty or whose files do not decode")
    over_long: Literal["error", "skip"] = Field("error", description="rows longer than seq_len")
    decoded: int = Field(4096, ge=0, description="rows whose media stay in memory; others are decoded in every epoch")


@dataclass(frozen=True)
class OmniBatch(Batch):
    """Rows of tokens with what their media look like.

    Args:
        features_BTF: the numbers of media where they stand, else zero.
        places_BT: the number of each patch in its image, counted on through the frames of a video.
    """

    features_BTF: Tensor
    places_BT: Tensor


class Samples(Store):
    """Rows that are decoded when they are asked for."""

    def __init__(self, rows: Sequence[Row], lengths: Sequence[int], encode: Any, decoded: int):
        self.rows = rows
        self.skipped = {}
        self.starts = np.cumsum([0, *(length + 1 for length in lengths)])
        self._encode = lru_cache(decoded)(encode)

    def sample(self, index: int) -> Piece:
        """A row with its media.

        Raises:
            DataError: a file is not what it was when the corpus was opened.
        """
        piece = self._encode(self.rows[index])
        if len(piece.ids) - 1 != self.lengths[index]:
            raise DataError("changed while it was used", field=self.rows[index].where)
        return piece

    def piece(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids, and which of them are learned."""
        one = self.sample(index)
        return one.ids, one.learned


class InterleavedStream(BatchStream):
    """An endless iterator of `OmniBatch`; order, packing and place are those of `BatchStream`."""

    store: Samples

    def _make(self, rows: Sequence[Sequence[int]]) -> OmniBatch:
        return with_media(super()._make(rows), [[self.store.sample(index) for index in row] for row in rows])


def with_media(batch: Batch, rows: Sequence[Sequence[Piece]]) -> OmniBatch:
    """Add the media of the pieces that a batch was put together from."""
    features_BTF = torch.zeros(*batch.ids_BT.shape, rows[0][0].features_TF.shape[1])
    places_BT = torch.zeros_like(batch.ids_BT)
    for row, pieces in enumerate(rows):
        at = 0
        for piece in pieces:
            stop = at + len(piece.ids) - 1
            features_BTF[row, at:stop], places_BT[row, at:stop] = piece.features_TF[:-1], piece.places_T[:-1]
            at = stop
    return OmniBatch(batch.ids_BT, batch.targets_BT, batch.positions_BT, batch.segments_BT, features_BTF, places_BT)


@dataclass(frozen=True)
class InterleavedCorpus:
    """Training batches, batches to evaluate on, and what was left out."""

    train: InterleavedStream
    held_out: InterleavedStream
    skipped: dict[str, dict]


def open_interleaved(
    config: InterleavedConfig, tokenizer: Tokenizer, media: MediaConfig, media_ids: Mapping[str, int], seed: int
) -> InterleavedCorpus:
    """Read, decode every file once to check it, split and make streams.

    Raises:
        DataError: a row is misshapen, or (as `bad` and `over_long` say) empty, undecodable or too long; which, and where.
        NothingSupervisedError: nothing is left to learn from.
        ConfigError: one row only, and none can be held out.
    """
    encode = partial(encode_row, tokenizer=tokenizer, media=media, media_ids=media_ids)
    skipped = Skipped()

    def checked(path: Path) -> list[tuple[Row, int]]:
        found = []
        with Progress("checking media", unit="row") as progress:
            for row in read_rows(path, config.encoding):
                length = _checked_length(row, encode, config, skipped)
                found += [(row, length)] if length else []
                progress.advance()
        if not found:
            raise NothingSupervisedError("the data holds no text to learn", field="data", hint=str(skipped) or None)
        return found

    rows = checked(config.path)
    others = None if config.held_out is None else checked(config.held_out)
    train, held = sides(rows, others, config.held_out_share, lambda found: found[0].key)

    def stream(some: Sequence[tuple[Row, int]]) -> InterleavedStream:
        samples = Samples([row for row, _ in some], [length for _, length in some], encode, config.decoded)
        pieces, pad = np.arange(len(some)), tokenizer.pad_id or 0
        return InterleavedStream(samples, pieces, config.rows, config.seq_len, config.packing, seed, pad)

    return InterleavedCorpus(stream(train), stream(held), skipped.report())


def _checked_length(row: Row, encode: Any, config: InterleavedConfig, skipped: Skipped) -> int:
    """Positions that a row takes; 0 where it is left out."""
    try:
        if not any(part.text.strip() or part.files for part in row.parts):
            raise DataError("is empty", field=row.where)
        piece = encode(row)
    except DataError as err:
        if config.bad == "error":
            raise DataError(err.message, field=err.field, value=err.value, hint=err.hint or "data.bad=skip") from None
        kind = (err.field or "").removeprefix(row.where).strip()
        skipped.add(f"with {kind} that cannot be used" if kind else "empty", str(err))
        return 0
    length = len(piece.ids) - 1
    if length > config.seq_len:
        if config.over_long == "error":
            raise DataError(
                f"takes {length} positions and data.seq_len is {config.seq_len}",
                field=row.where,
                hint="data.over_long=skip",
            )
        skipped.add("over-long", row.where)
        return 0
    if not piece.learned[1:].any():
        skipped.add("with nothing to learn", row.where)
        return 0
    return length
