"""Image and sound files as the tensors that a model reads: as its makers say, or else as its shape asks for.

C × H × W an image's channels, height and width; F mel bands, M mel frames; P pieces.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.audio import MelConfig, chunks, log_mel, mel_config, read_audio
from cutaway.data.images import RESAMPLING, ImageConfig, image_config, prepare, read_image
from cutaway.data.media import PREPROCESSOR, Source, read_preprocessor, source_name
from cutaway.nn.patches import height_width

Medium = Literal["image", "audio"]
Preprocessor = ImageConfig | MelConfig


def preprocessor(
    medium: Medium, folder: Path | None, shape: Any = None, over: Mapping[str, Any] | None = None
) -> Preprocessor:
    """How a model wants its files.

    Args:
        folder: the model's; what its `preprocessor_config.json` says counts, where there is one.
        shape: the model's configuration, which else decides; None: the folder must say.
        over: fields that count more than either.

    Raises:
        CheckpointError: the folder does not say, or says what is not supported. ConfigError: a field of `over`.
    """
    read, derived = (image_config, _pixels_of) if medium == "image" else (mel_config, _frames_of)
    stated = folder is not None and (shape is None or (folder / PREPROCESSOR).exists())
    found: Preprocessor = read(read_preprocessor(folder)) if stated and folder is not None else derived(shape)
    try:
        return make_config(type(found), {**found.model_dump(), **(over or {})})
    except ConfigError as err:
        field = "data.preprocessor" + (f".{err.field}" if err.field else "")
        raise ConfigError(err.message, field=field, value=err.value, hint=err.hint) from None


def pieces(file: Source, wants: Preprocessor) -> Tensor:
    """P × C × H × W, an image in one piece; or P × F × M, a sound in as many as the model hears one after another.

    Raises:
        DataError: what is wrong with the file.
    """
    if isinstance(wants, ImageConfig):
        return prepare(read_image(file, wants.channels), wants)[None]
    return log_mel(chunks(read_audio(file, wants.sampling_rate), wants), wants)


def one_piece(file: Source, wants: Preprocessor) -> Tensor:
    """The only piece of a file.

    Raises:
        DataError: what is wrong with the file; a sound is longer than the model hears at once.
    """
    found = pieces(file, wants)
    if len(found) > 1:
        assert isinstance(wants, MelConfig)
        raise DataError(
            f"is longer than the {wants.chunk_length:g} seconds that the model hears at once",
            field="audio",
            value=source_name(file),
            hint="cut it",
        )
    return found[0]


def to_hf(wants: Preprocessor) -> dict[str, Any]:
    """The `preprocessor_config.json` that transformers reads."""
    if isinstance(wants, MelConfig):
        seconds = int(wants.chunk_length) if wants.chunk_length.is_integer() else wants.chunk_length
        return {
            "feature_extractor_type": "WhisperFeatureExtractor",
            **wants.model_dump(),
            "chunk_length": seconds,  # there a whole number, from which lengths are computed
        }
    size, crop = wants.size, wants.crop_size
    return {
        "image_processor_type": "CLIPImageProcessor" if isinstance(size, int) else "ViTImageProcessor",
        "do_resize": size is not None,
        "size": {"shortest_edge": size} if isinstance(size, int) else _sides(size),
        "resample": next(number for number, name in RESAMPLING.items() if name == wants.resample),
        "do_center_crop": crop is not None,
        "crop_size": _sides(crop),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(wants.image_mean),
        "image_std": list(wants.image_std),
    }


def _sides(size: tuple[int, int] | None) -> dict[str, int] | None:
    return None if size is None else {"height": size[0], "width": size[1]}


def _pixels_of(shape: Any) -> ImageConfig:
    """For a model that sees, or has a part that does: its size, -1…1."""
    eye = getattr(shape, "vision_config", None) or getattr(shape, "encoder", None) or shape
    half = (0.5,) * eye.num_channels
    return make_config(ImageConfig, {"size": height_width(eye.image_size), "image_mean": half, "image_std": half})


def _frames_of(shape: Any) -> MelConfig:
    """Whisper's windows, and as many as the model has positions for."""
    usual = MelConfig()
    seconds = 2 * shape.max_source_positions * usual.hop_length / usual.sampling_rate
    return MelConfig(feature_size=shape.num_mel_bins, chunk_length=seconds)
