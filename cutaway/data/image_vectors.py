"""Image files as vectors in [0, 1]: those of a folder, or those that records name ({"image": "digits/7.png"}).

B rows, N numbers of an image, C × H × W its channels, height and width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Literal

import torch
import xxhash
from pydantic import Field, PositiveInt
from torch import Tensor

from cutaway.core.errors import DataError
from cutaway.data.batch import Rows
from cutaway.data.examples import Skipped
from cutaway.data.images import read_image, resize
from cutaway.data.read import ROWS, kind, read_records
from cutaway.data.rows import RecordsConfig, RowCorpus, RowStream, sides

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
Shape = tuple[int, int, int]  # C, H, W


class ImageVectorsConfig(RecordsConfig):
    """Where the images are and how they become batches."""

    path: Path = Field(description="folder or pattern of image files, or JSONL, JSON or Parquet that names them")
    image_field: str = Field("image", description="of records: a file, looked for beside the file that names it")
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="height and width that images are brought to; null: as they are, all alike"
    )
    channels: Literal[1, 3] = Field(1, description="1: grey, 3: colour")
    bad: Literal["error", "skip"] = Field("error", description="images that do not decode or are of another size")
    rows: int = Field(64, ge=1, description="images per micro-batch")


@dataclass(frozen=True)
class ImageBatch(Rows):
    """Images, B × N, from 0 to 1. An image is one position: what a model computes for it, it computes once."""

    pixels_BN: Tensor

    @property
    def length(self) -> int:
        """1."""
        return 1

    @property
    def n_tokens(self) -> int:
        """Images."""
        return len(self.pixels_BN)


@dataclass(frozen=True)
class ImageCorpus(RowCorpus[Tensor, ImageBatch]):
    """Images, and what one of them measures."""

    shape: Shape = (1, 1, 1)


def open_images(config: ImageVectorsConfig, seed: int) -> ImageCorpus:
    """Read, split by what the images show (copies stay together) and make streams.

    Raises:
        DataError: no image, or one that (as `bad` says) does not decode or is of another size; which.
        ConfigError: one image only, and none can be held out.
    """
    skipped = Skipped()
    images = _read(config.path, config, skipped, None)
    shape: Shape = tuple(images[0].shape)  # type: ignore[assignment]
    others = None if config.held_out is None else _read(config.held_out, config, skipped, shape)
    train, held = sides(
        images, others, config.held_out_share, lambda image: xxhash.xxh3_64_hexdigest(image.numpy().tobytes())
    )

    def stream(some: list[Tensor]) -> RowStream[Tensor, ImageBatch]:
        return RowStream(some, lambda rows, drawn: ImageBatch(torch.stack(rows).flatten(1)), config.rows, seed)

    return ImageCorpus(stream(train), stream(held), skipped.report(), shape)


def _read(path: Path, config: ImageVectorsConfig, skipped: Skipped, shape: Shape | None) -> list[Tensor]:
    """Images of one shape: that which is given, or that of the first."""
    images: list[Tensor] = []
    for file, where in _files(path, config):
        try:
            image_CHW = _image(file, where, config, tuple(images[0].shape) if images else shape)
        except DataError as err:
            if config.bad == "error":
                raise DataError(err.message, field=where, value=err.value, hint=err.hint or "data.bad=skip") from None
            skipped.add("that cannot be used", str(DataError(err.message, field=where, value=err.value)))
            continue
        images.append(image_CHW)
    if not images:
        raise DataError("holds no image that can be used", field="data", value=str(path), hint=str(skipped) or None)
    return images


def _files(path: Path, config: ImageVectorsConfig) -> Iterator[tuple[Path, str]]:
    """Image files, and what messages call their places."""
    path = path.expanduser()
    if kind(path) in ROWS and not path.is_dir():
        for record in read_records(path, config.encoding):
            name = record.value.get(config.image_field) if isinstance(record.value, dict) else None
            if not isinstance(name, str) or not name:
                hint = "data.image_field names the field; for texts: --text"
                raise DataError("must name a file", field=f"{record.where} {config.image_field}", value=name, hint=hint)
            yield path.parent / name, f"{record.where} {config.image_field}"
        return
    inside = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    found = sorted(file for file in inside if file.suffix.lower() in IMAGES)
    if not found:
        hint = ", ".join((*IMAGES, *ROWS))
        raise DataError("no image file is there", field="data.path", value=str(path), hint=hint)
    yield from ((file, "image") for file in found)


def _image(file: Path, where: str, config: ImageVectorsConfig, shape: tuple[int, ...] | None) -> Tensor:
    image_CHW = read_image(file, config.channels)
    if config.size is not None:
        image_CHW = resize(image_CHW, *config.size, "bilinear")
    if shape is not None and image_CHW.shape != shape:
        one, others = ("×".join(map(str, found[1:])) for found in (image_CHW.shape, shape))
        hint = f"data.size=[{shape[1]},{shape[2]}] brings all to one size"
        raise DataError(f"is {one} pixels and others are {others}", field=where, value=str(file), hint=hint)
    return image_CHW
