"""Image files as tensors, and what a vision model wants of them: size, crop, mean and deviation.

C channels, H × W the height and width in pixels.
"""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError, ConfigError, DataError, ResourceError
from cutaway.core.files import new_file
from cutaway.data.media import Source, decoding, source_name

MOST_PIXELS = 64_000_000  # a few kilobytes of a compressed file can claim any number
_SEEN = 48  # pixels on a side below which an image of a grid is enlarged
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as `preprocessor_config.json` has them


class ImageConfig(Config):
    """How a model wants its images; field names are those of `preprocessor_config.json`."""

    size: int | tuple[int, int] | None = Field(
        224, description="the shorter side in pixels (proportions stay), or height and width (they do not)"
    )
    crop_size: tuple[int, int] | None = Field(None, description="height and width, cut from the middle")
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    image_mean: tuple[float, ...] = Field((0.5, 0.5, 0.5), description="of each channel, in 0…1")
    image_std: tuple[float, ...] = Field((0.5, 0.5, 0.5), description="of each channel, in 0…1")

    @model_validator(mode="after")
    def _consistent(self) -> "ImageConfig":
        if len(self.image_mean) not in (1, 3) or len(self.image_std) != len(self.image_mean):
            raise ValueError("image_mean and image_std need one number each (grey) or three (colour)")
        if min(self.image_std) <= 0:
            raise ValueError("image_std must be above 0")
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        if size and min(size) < 1:
            raise ValueError("size must be above 0")
        if size and self.crop_size and (self.crop_size[0] > size[0] or self.crop_size[1] > size[1]):
            raise ValueError(f"crop_size {self.crop_size} is larger than size {self.size}")
        return self

    @property
    def channels(self) -> Literal[1, 3]:
        """1 for grey images, 3 for colour."""
        return 1 if len(self.image_mean) == 1 else 3


def read_image(source: Source, channels: Literal[1, 3] = 3) -> Tensor:
    """C × H × W, float32 in 0…1, upright; of an animation the first frame. Transparency is dropped.

    Args:
        source: a file of any format that Pillow knows, or its bytes.
        channels: 3 for red, green and blue; 1 for grey.

    Raises:
        DataError: missing, empty, truncated, no image, more than `MOST_PIXELS`, or more than 16 bits per channel.
        ResourceError: Pillow is not installed.
    """
    try:
        import numpy
        from PIL import Image, ImageOps
    except ImportError:
        raise ResourceError("Pillow is not installed, and images need it", field="image", hint="pip: pillow") from None
    name = source_name(source)
    with decoding(source, "image") as file:
        try:
            image: Image.Image = Image.open(file)
            pixels = image.width * image.height
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pixels = MOST_PIXELS + 1
        if pixels > MOST_PIXELS:
            raise DataError(f"has more than {MOST_PIXELS:,} pixels", field="image", value=name, hint="make it smaller")
        if pixels == 0:
            raise DataError("has no pixels", field="image", value=name)
        if image.mode in ("I", "F"):
            raise DataError("has 32 bits per pixel", field="image", value=name, hint="save it with 8 or 16")
        image = ImageOps.exif_transpose(image)  # cameras store how they were held
        if image.mode.startswith("I;16"):
            grey = torch.from_numpy(numpy.asarray(image).astype(numpy.float32) / 65535)
            return grey.expand(channels, -1, -1).clone()
        if "transparency" in image.info:  # Pillow warns of a palette with it that becomes a colour at once
            image = image.convert("RGBA")
        values = numpy.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(values).reshape(*values.shape[:2], channels).permute(2, 0, 1).float() / 255


def write_grid(images_BCHW: Tensor, path: Path) -> None:
    """Images of one size as a PNG file, side by side in an almost square grid; small ones are enlarged to be seen.

    Args:
        images_BCHW: from 0 to 1, grey or colour.

    Raises:
        ConfigError: the file's name does not end in .png.
        ResourceError: Pillow is not installed, or the disk is full.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError("must end in .png", field="out", value=str(path))
    try:
        from PIL import Image
    except ImportError:
        raise ResourceError("Pillow is not installed, and images need it", field="out", hint="pip: pillow") from None
    B, C, H, W = images_BCHW.shape
    columns = math.ceil(math.sqrt(B))
    factor = max(1, _SEEN // max(H, W))
    padded = functional.pad(images_BCHW, (0, 0, 0, 0, 0, 0, 0, -B % columns))
    padded = functional.pad(padded.repeat_interleave(factor, 2).repeat_interleave(factor, 3), (1, 1, 1, 1), value=0.5)
    grid = padded.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    values = (grid.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    with new_file(path) as temporary:
        Image.fromarray(values[..., 0] if C == 1 else values).save(temporary, format="PNG")


def prepare(image_CHW: Tensor, config: ImageConfig) -> Tensor:
    """Pixels as the model wants them: resized, cropped, normalised."""
    if isinstance(config.size, int):
        height, width = image_CHW.shape[1:]
        short = min(height, width)
        image_CHW = resize(image_CHW, config.size * height // short, config.size * width // short, config.resample)
    elif config.size is not None:
        image_CHW = resize(image_CHW, *config.size, config.resample)
    if config.crop_size is not None:
        image_CHW = centre_crop(image_CHW, *config.crop_size)
    return normalise(image_CHW, config.image_mean, config.image_std)


def resize(image_CHW: Tensor, height: int, width: int, resample: str) -> Tensor:
    """Another size; the filter widens as the image shrinks, like Pillow's, so that nothing aliases. Values stay in 0…1."""
    smooth = resample != "nearest"
    mode = resample if smooth else "nearest-exact"
    corners = False if smooth else None
    scaled = functional.interpolate(
        image_CHW[None], (height, width), mode=mode, align_corners=corners, antialias=smooth
    )
    return scaled[0].clamp(0, 1)  # a cubic overshoots at edges


def centre_crop(image_CHW: Tensor, height: int, width: int) -> Tensor:
    """The middle of an image.

    Raises:
        DataError: the image is smaller than that.
    """
    H, W = image_CHW.shape[1:]
    if height > H or width > W:
        raise DataError("is smaller than the crop", field="image", value=f"{H}×{W}", hint=f"at least {height}×{width}")
    top, left = (H - height) // 2, (W - width) // 2
    return image_CHW[:, top : top + height, left : left + width]


def normalise(image_CHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x - mean) / std in each channel."""
    assert len(mean) == len(std) == len(image_CHW), "a number per channel"
    return (image_CHW - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def image_config(values: dict[str, Any]) -> ImageConfig:
    """From the values of a `preprocessor_config.json` (`data.media.read_preprocessor`).

    Raises:
        CheckpointError: a step that is not supported, or a value that is none; which.
    """
    for name in ("do_resize", "do_center_crop", "do_normalize"):
        if not isinstance(values.get(name), bool | None):
            raise CheckpointError("must be true or false", field=name, value=values[name])
    for name, usual in (("do_rescale", True), ("do_pad", False)):
        if (values.get(name, usual) or False) is not usual:
            raise CheckpointError(f"only {str(usual).lower()} is supported", field=name, value=values[name])
    factor = values.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or abs(factor - 1 / 255) > 1e-6:
        raise CheckpointError("only 1/255 is supported", field="rescale_factor", value=factor)
    known: dict[str, Any] = {"size": None}
    if values.get("do_resize", True):
        resample = values.get("resample", 2)
        if not isinstance(resample, int) or resample not in RESAMPLING:
            hint = ", ".join(f"{number} ({name})" for number, name in RESAMPLING.items())
            raise CheckpointError("unsupported", field="resample", value=resample, hint=hint)
        known = {"size": _size(values), "resample": RESAMPLING[resample]}
    if values.get("do_center_crop", False):
        known["crop_size"] = _sides(values.get("crop_size"), "crop_size")
    if values.get("do_normalize", True):
        known |= {name: values[name] for name in ("image_mean", "image_std") if values.get(name) is not None}
    else:
        known |= {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
    try:
        return ImageConfig.model_validate(known)
    except ValueError as err:
        raise CheckpointError(str(err), field="preprocessor_config.json") from None


def _size(values: dict[str, Any]) -> int | tuple[int, int]:
    """A bare number is the shorter side where CLIP's processor wrote it, and a square elsewhere."""
    size = values.get("size")
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return size["shortest_edge"]
    written_by = str(values.get("image_processor_type") or values.get("feature_extractor_type"))
    return size if isinstance(size, int) and written_by.startswith("CLIP") else _sides(size, "size")


def _sides(size: Any, field: str) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        return size["height"], size["width"]
    raise CheckpointError("unsupported", field=field, value=size, hint="height and width, or shortest_edge")
