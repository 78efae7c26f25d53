"""What models are here, from their headers alone: kind, size, memory, context. No weights are read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cutaway.core.errors import CutawayError
from cutaway.models.decoder import Decoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.load import read_shape
from cutaway.models.packaged import packaged_models

# Bits per weight as stored: int4 in groups of 32 with a 16-bit scale.
PRECISIONS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.5, "int4": 4.5}
_HEADS = ("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads")  # what families call them


@dataclass(frozen=True)
class Entry:
    """A model in the catalogue.

    Args:
        kind: decoder, encoder-decoder, encoder or auto-encoder.
        layers: of an encoder-decoder, those of its decoder.
        memory: bytes of the weights at each precision.
        cache_per_token: bytes of keys and values per position, in bfloat16; 0 where none are kept.
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
        module, config = read_shape(path)
        with torch.device("meta"):
            model = module.build(config)
    except CutawayError as err:
        return Entry(name, str(path), error=str(err))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = len(getattr(model, "blocks", ()))
    heads = next((getattr(config, name) for name in _HEADS if hasattr(config, name)), 0)
    return Entry(
        name,
        str(path),
        _kind(model),
        config.model_type,
        parameters,
        getattr(model, "context", 0),
        layers,
        heads,
        getattr(config, "kv_heads", heads),
        getattr(config, "vocab_size", 0),
        {precision: int(parameters * bits / 8) for precision, bits in PRECISIONS.items()},
        cache_per_token(model),
    )


def cache_per_token(model: Any) -> int:
    """Bytes that keys and values of one position take in all layers, in bfloat16; 0 where none are kept."""
    config = model.config
    kv_width = getattr(config, "kv_width", 0)
    width = kv_width + getattr(config, "value_width", kv_width)  # beside a latent lies something narrower than it
    return torch.bfloat16.itemsize * len(model.blocks) * config.kv_heads * width if width else 0


def _kind(model: Any) -> str:
    if isinstance(model, Decoder):
        return "decoder"
    if isinstance(model, EncoderDecoder):
        return "encoder-decoder"
    return "encoder" if hasattr(model, "blocks") else "auto-encoder"
