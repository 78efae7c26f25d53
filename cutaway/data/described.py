"""Files and what is said of each: images or sounds with a text (a caption, a transcript) or a label.

{"image": "cats/1.png", "text": "two cats"}     {"audio": "7.wav", "text": "seven"}     {"image": "7.png", "label": 7}

A file is looked for beside the one that names it, and decoded when it is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import DataError
from cutaway.core.progress import Progress
from cutaway.data.examples import Skipped
from cutaway.data.media import PREPROCESSOR
from cutaway.data.preprocess import Medium, Preprocessor, one_piece, to_hf
from cutaway.data.read import ROWS, find_files, kind, read_records

MEDIA: tuple[Medium, ...] = ("image", "audio")


class FilesConfig(Config):
    """What becomes of files that rows name."""

    bad: Literal["error", "skip"] = Field("error", description="rows whose file cannot be used")
    decoded: int = Field(1024, ge=0, description="files that stay in memory; others are decoded in every epoch")
    preprocessor: dict[str, Any] = Field(
        {},
        description="how the model wants its files, where other than the checkpoint or its shape says: fields of "
        "data.images.ImageConfig (size, image_mean …) or data.audio.MelConfig (sampling_rate, n_fft …)",
    )


@dataclass(frozen=True)
class Described:
    """A file, what is said of it, and where that stood (`train.jsonl:17`)."""

    file: Path
    said: str
    where: str

    @property
    def key(self) -> str:
        """What the row is about, the same for all rows about the same file."""
        return "/".join(self.file.parts[-2:])


def medium_of(path: Path, encoding: str) -> Medium | None:
    """What the first record names a file of; None where it names none, so that all of it is text."""
    first = find_files(path)[0]
    value = next(iter(read_records(first, encoding))).value if kind(first) in ROWS else None
    return next((medium for medium in MEDIA if isinstance(value, dict) and medium in value), None)


def read_described(path: Path, medium: Medium, said: str, encoding: str) -> list[Described]:
    """The rows of files, whose media are not opened yet.

    Args:
        said: the field with what is said.

    Raises:
        DataError: a row names no file, or says nothing of it; which, and where.
    """
    rows = []
    for listing in find_files(path):
        for record in read_records(listing, encoding):
            value = record.value if isinstance(record.value, dict) else {}
            file, what = value.get(medium), value.get(said)
            if not isinstance(file, str) or not file:
                raise DataError("must name a file", field=f"{record.where} {medium}", value=file)
            if isinstance(what, bool) or not isinstance(what, str | int):
                raise DataError("must be text or a whole number", field=f"{record.where} {said}", value=what)
            rows.append(Described(listing.parent / file, str(what), record.where))
    return rows


def read_sides(
    path: Path, held_out: Path | None, medium: Medium, said: str, encoding: str
) -> tuple[list[Described], list[Described] | None]:
    """`read_described` of the rows to learn from, and of those to evaluate on, where there are others."""
    rows = read_described(path, medium, said, encoding)
    return rows, None if held_out is None else read_described(held_out, medium, said, encoding)


class Media:
    """The files of rows as one model reads them.

    Args:
        wants: how it does.
    """

    def __init__(self, wants: Preprocessor, config: FilesConfig):
        self.wants, self.bad = wants, config.bad
        self.shape: tuple[int, ...] | None = None
        self._decode = lru_cache(config.decoded)(lambda file: one_piece(file, wants))

    @property
    def beside(self) -> dict[str, dict[str, Any]]:
        """The file that says so beside the weights, and what stands in it."""
        return {PREPROCESSOR: to_hf(self.wants)}

    def batch(self, rows: Sequence[Described]) -> Tensor:
        """Their files, one after another; raises what `read` does."""
        return torch.stack([self.read(row) for row in rows])

    def read(self, row: Described) -> Tensor:
        """The file of a row.

        Raises:
            DataError: it cannot be used, or has another shape than those before; which, and in which row.
        """
        try:
            found = self._decode(row.file)
            if self.shape not in (None, tuple(found.shape)):
                message = f"becomes {_shown(found.shape)} numbers and others {_shown(self.shape or ())}"
                hint = "data.preprocessor.size=[height,width] brings all to one size"
                raise DataError(message, field="image", value=str(row.file), hint=hint)
        except DataError as err:
            field, hint = f"{row.where} {err.field or ''}".strip(), err.hint or "data.bad=skip"
            raise DataError(err.message, field=field, value=err.value, hint=hint) from None
        return found

    def usable(self, rows: Sequence[Described], skipped: Skipped) -> list[Described]:
        """The rows whose files decode, all of them to one shape: every file is read once. Others are an error, or counted.

        Raises:
            DataError: a file that cannot be used, or no file that can; which, and where.
        """
        found: list[Described] = []
        with Progress("checking files", len(rows), "file") as progress:
            for row in rows:
                progress.advance()
                try:
                    self.shape = tuple(self.read(row).shape)
                except DataError as err:
                    if self.bad == "error":
                        raise
                    skipped.add("with a file that cannot be used", str(err))
                    continue
                found.append(row)
        if not found:
            raise DataError("no file can be used", field="data", hint=str(skipped) or None)
        return found


def _shown(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
