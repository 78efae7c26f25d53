"""One way in: a folder, a `.gguf` file or the name of a packaged model becomes a model with its tokeniser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core.device import pick_device, pick_dtype
from cutaway.core.errors import CheckpointError, ConfigError, near_matches
from cutaway.models import extension
from cutaway.models.extension import read_extension
from cutaway.models.families import family
from cutaway.models.gguf import config_from_gguf, load_gguf
from cutaway.models.gguf_file import open_gguf
from cutaway.models.huggingface import PICKLES, check_tokenizer, load_model, model_config, read_config, refuse_pickle
from cutaway.models.packaged import PACKAGED, packaged_path
from cutaway.text.gguf import tokenizer_from_gguf
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer

STORED = "stored"


@dataclass(frozen=True)
class Loaded:
    """A model with what it needs to run.

    Args:
        model: the network, in evaluation mode.
        tokenizer: the tokeniser that belongs to it.
        name: what the user calls it (the server's model name).
        source: where it came from.
    """

    model: Any
    tokenizer: Tokenizer
    name: str
    source: Path


def load(spec: str | Path, *, dtype: str = "auto", device: str = "auto", extend: str | None = None) -> Loaded:
    """Load a model and its tokeniser.

    Args:
        spec: a Hugging Face folder, a `.gguf` file, or the name of a packaged model (`packaged.PACKAGED`).
        dtype: auto, float32, bfloat16 or float16; stored: quantised weights of a `.gguf` file stay in its blocks.
        device: auto, cpu, cuda …
        extend: a longer context than the trained one (`extension.read_extension`), for example yarn=4.

    Raises:
        CheckpointError: what is wrong with the files, by name.
        ConfigError: what cannot be of the settings.
    """
    longer = None if extend is None else read_extension(extend)
    path = find(spec)
    target = pick_device(device)
    number = None if dtype == STORED else pick_dtype(dtype, target)
    if path.is_dir():
        if number is None:
            raise ConfigError("a folder holds no blocks", field="dtype", value=dtype, hint="auto, or a .gguf file")
        model = load_model(path, number, target)
        tokenizer = load_tokenizer(path)
    else:
        file = open_gguf(path)
        model = load_gguf(file, number, target, str(path))
        tokenizer = tokenizer_from_gguf(file.metadata)
    check_tokenizer(tokenizer, model, str(path))
    if longer:
        extension.extend(model, longer)
    name = str(spec) if str(spec) in PACKAGED else path.resolve().name.removesuffix(".gguf")
    return Loaded(model, tokenizer, name, path)


def read_shape(path: Path) -> tuple[Any, Any]:
    """A checkpoint's family (its module) and configuration, from its header alone."""
    if path.is_dir():
        values = read_config(path)
        return family(values["model_type"]), model_config(values)
    file = open_gguf(path)
    config = config_from_gguf(file, str(path))
    return family(config.model_type), config


def find(spec: str | Path) -> Path:
    """The path behind a model's name; no hub is ever asked."""
    text, path = str(spec), Path(spec).expanduser()
    if text in PACKAGED and not path.exists():
        found = packaged_path(text)
        if found is None:
            raise CheckpointError(
                "its package is not installed", field="model", value=text, hint=f"pip: {PACKAGED[text][0]}"
            )
        return found
    if path.suffix in PICKLES and path.exists():
        raise refuse_pickle(path)
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return path
    if path.is_file():
        raise CheckpointError("is neither a folder nor a .gguf file", field="model", value=text)
    hint = near_matches(text, PACKAGED)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        hint = "no model is fetched from a hub: give a folder or a .gguf file; " + hint
    raise CheckpointError("no such folder, file or packaged model", field="model", value=text, hint=hint)
