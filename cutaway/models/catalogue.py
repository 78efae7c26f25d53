"""What models are here, from their headers alone: kind, size, memory, context. No weights are read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cutaway.core.errors import CutawayError
from cutaway.models.families import family
from cutaway.models.gguf import config_from_gguf, metadata_without_arrays, open_gguf
from cutaway.models.huggingface import model_config, read_config
from cutaway.models.packaged import packaged_models

# Bits per weight as stored: int4 in groups of 32 with a 16-bit scale.
PRECISIONS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.5, "int4": 4.5}


@dataclass(frozen=True)
class Entry:
    """A model in the catalogue.

    Args:
        kind: decoder or encoder.
        memory: bytes of the weights at each precision.
        cache_per_token: bytes of keys and values per position, in bfloat16; 0 for encoders.
        error: why it cannot be used, when it cannot.
    """

    name: str
    path: str
    kind: str = ""
    family: str = ""
    parameters: int = 0
    context: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    vocabulary: int = 0
    memory: dict[str, int] | None = None
    cache_per_token: int = 0
    error: str | None = None

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def catalogue(folders: list[Path]) -> list[Entry]:
    """The packaged models that are installed, and every model in the folders (searched three levels deep)."""
    found = list(packaged_models().items())
    for folder in folders:
        candidates = [folder, *sorted(path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth))]
        for path in candidates:
            if (path / "config.json").is_file() or path.suffix == ".gguf":
                found.append((path.name if path.is_dir() else path.stem, path))
    return [_entry(name, path) for name, path in found]


def _entry(name: str, path: Path) -> Entry:
    try:
        config, module = _config(path)
        with torch.device("meta"):
            model = module.build(config)
    except CutawayError as err:
        return Entry(name, str(path), error=str(err))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers, heads, kv_heads, width = _attention(model)
    decoder = hasattr(model, "logits")
    return Entry(
        name,
        str(path),
        "decoder" if decoder else "encoder",
        config.model_type,
        parameters,
        model.context,
        layers,
        heads,
        kv_heads,
        config.vocab_size,
        {precision: int(parameters * bits / 8) for precision, bits in PRECISIONS.items()},
        2 * layers * kv_heads * width * 2 if decoder else 0,
    )


def _config(path: Path) -> tuple[Any, Any]:
    if path.is_dir():
        values = read_config(path)
        return model_config(values), family(values["model_type"])
    reader = open_gguf(path)
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    config = config_from_gguf(metadata_without_arrays(reader), shapes, str(path))
    return config, family(config.model_type)


def _attention(model: Any) -> tuple[int, int, int, int]:
    """Layers, query heads, key-value heads, head width."""
    if hasattr(model, "new_cache"):
        k_LBGSK = model.new_cache(1, 1).k_LBGSK
        layers, _, kv_heads, _, width = k_LBGSK.shape
    else:
        layers, kv_heads, width = len(model.blocks), 0, 0
    config: Any = model.config
    heads = getattr(config, "num_attention_heads", None) or config.n_head
    return layers, heads, kv_heads or heads, width
