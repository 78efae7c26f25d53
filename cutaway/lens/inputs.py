"""What a model is shown: the ids of a text, a file as the tensor that the model reads, or a row of parts. And models that know no
text at all."""

import math
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from cutaway.core.device import pick_device
from cutaway.core.errors import ConfigError
from cutaway.data.images import read_image, resize
from cutaway.data.parts import Row
from cutaway.data.preprocess import pieces, preprocessor
from cutaway.lens.layers import how_to_give, inputs_of
from cutaway.lens.parts import Parts, to_parts
from cutaway.models.huggingface import load_model
from cutaway.models.load import Loaded, find, load, read_shape
from cutaway.models.vae import VAE, VAEConfig
from cutaway.models.vit import ViTConfig
from cutaway.models.whisper_config import WhisperConfig
from cutaway.text.tokenizer import Tokenizer


def open_model(spec: str) -> Loaded:
    """Any model in float32; one that knows no tokens gets a tokeniser of none."""
    path = find(spec)
    shape = read_shape(path)[1]
    if not isinstance(shape, ViTConfig | VAEConfig) and not (isinstance(shape, WhisperConfig) and shape.labels):
        return load(spec, dtype="float32")
    empty = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE({}, [])))
    return Loaded(load_model(path, torch.float32, pick_device("auto")), empty, path.stem, path)


def read_text(loaded: Loaded, text: str) -> Tensor:
    """The ids of a text, 1 × T."""
    ids = loaded.tokenizer.encode(text, special=True)
    return torch.tensor([ids], dtype=torch.int64, device=_device(loaded))


def read_file(loaded: Loaded, kind: str, file: Path) -> Tensor:
    """An image or a sound as the model reads it, one of them.

    How it wants them stands in its `preprocessor_config.json`; without one it follows from its configuration. Of a sound that is
    longer than the model hears at once, the beginning.

    Args:
        kind: image or audio.

    Raises:
        ConfigError: the model does not read such files, or vectors that are no square image.
        DataError: what is wrong with the file.
    """
    if kind not in inputs_of(loaded.model):
        raise _refused(loaded, f"--{kind}", str(file))
    if kind == "audio":
        medium = pieces(file, preprocessor("audio", loaded.source, loaded.model.config))[:1]
    elif isinstance(loaded.model, VAE):
        medium = _vector(file, loaded.model.config)
    else:
        medium = pieces(file, preprocessor("image", loaded.source, loaded.model.config))
    return medium.to(_device(loaded))


def read_parts(loaded: Loaded, row: Row) -> Parts:
    """Texts, images, sounds and videos in a row.

    Raises:
        ConfigError: the model does not read such rows.
        DataError: a file is missing, does not decode, or is too long; which, and in which row.
    """
    if "parts" not in inputs_of(loaded.model):
        raise _refused(loaded, row.where)
    return to_parts(row, loaded.model, loaded.tokenizer)


def _refused(loaded: Loaded, field: str, value: str | None = None) -> ConfigError:
    family, kinds = loaded.model.config.model_type, " or ".join(inputs_of(loaded.model))
    what = f"a model of the family {family} reads {kinds}"
    return ConfigError(what, field=field, value=value, hint=how_to_give(loaded.model))


def _vector(file: Path, config: VAEConfig) -> Tensor:
    """1 × N, in 0…1; where the model does not say what its vectors are, a grey square."""
    side = math.isqrt(config.vector_size)
    channels, height, width = config.image_shape or (1, side, side)
    if channels * height * width != config.vector_size or channels not in (1, 3):
        what = "the model reads vectors that are no square image"
        raise ConfigError(what, field="vector_size", value=config.vector_size, hint="name its image_shape")
    return resize(read_image(file, 3 if channels == 3 else 1), height, width, "bilinear").reshape(1, -1)


def _device(loaded: Loaded) -> torch.device:
    return next(loaded.model.parameters()).device
