"""The container format GGUF (versions 2 and 3): metadata, and tensors mapped from the file, not copied.

The layout is that of ggml's docs/gguf.md: magic, version, two counts, key-value pairs, tensor records, padding, data. The header
becomes plain Python values at once: a vocabulary alone is 100,000 strings. Only little-endian files are read.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quant_shape_to_byte_shape

from cutaway.core.errors import CheckpointError

_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), 32
# The format's value types by number.
_SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_STRING, _ARRAY = 8, 9
_PLAIN = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True)
class GGUFTensor:
    """One tensor of the file.

    Args:
        name: in llama.cpp's naming.
        shape: rows first, in elements.
        kind: its number format.
        data: the file's own bytes: numbers of a plain format in `shape`, or rows of quantised blocks as bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    data: np.ndarray

    def dequantised(self) -> np.ndarray:
        """The values in float32, writable, in `shape`.

        Raises:
            CheckpointError: a number format that is not known.
        """
        try:
            values = dequantize(self.data, self.kind)
        except NotImplementedError:
            raise CheckpointError("unsupported number format", field=self.name, value=self.kind.name) from None
        return np.require(values, np.float32, requirements="W")

    def blocks(self) -> np.ndarray:
        """The file's bytes, writable, one row for each of the matrix's."""
        return self.data.reshape(self.shape[0], -1).view(np.uint8).copy()


@dataclass(frozen=True)
class GGUFFile:
    """An open file.

    Args:
        metadata: key-value pairs as plain Python values.
        tensors: in the order of the file.
        data_offset: byte where the header ends and the tensors begin.
    """

    metadata: dict[str, Any]
    tensors: tuple[GGUFTensor, ...]
    data_offset: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {tensor.name: tensor.shape for tensor in self.tensors}


def open_gguf(path: Path) -> GGUFFile:
    """Map the file into memory and read its header.

    Raises:
        CheckpointError: the file is absent, cut off, or its header contradicts itself.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read(mapped)
    except FileNotFoundError:
        raise CheckpointError("no such file", field="model", value=str(path)) from None
    # What wrong bytes give: short buffers, sizes beyond reason, unknown numbers, strings that are not UTF-8, endless nesting.
    except (ValueError, OSError, OverflowError, MemoryError, KeyError, struct.error, RecursionError) as err:
        raise CheckpointError(f"is not a whole GGUF file: {err}", field="model", value=str(path)) from None


def _read(buffer: mmap.mmap) -> GGUFFile:
    header = _Header(buffer)
    if header.take(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = header.number("<u4")
    if version not in _VERSIONS:
        raise ValueError(f"version {version} (known: 2 and 3, little-endian)")
    n_tensors, n_pairs = header.number("<u8"), header.number("<u8")
    metadata: dict[str, Any] = {}
    for _ in range(n_pairs):
        name = header.string()
        if name in metadata:
            raise ValueError(f"{name} is there twice")
        metadata[name] = header.value(header.number("<u4"))
    records = [header.tensor() for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment {alignment} is not a power of two")
    start = -(-header.at // alignment) * alignment
    tensors = tuple(_tensor(buffer, start, *record) for record in records)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ValueError("two tensors have the same name")
    return GGUFFile(metadata, tensors, start)


def _tensor(buffer: mmap.mmap, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GGUFTensor:
    quantisation = GGMLQuantizationType(kind)
    block, block_bytes = GGML_QUANT_SIZES[quantisation]
    dtype = np.dtype(_PLAIN.get(quantisation.name, "u1"))
    stored = shape if quantisation.name in _PLAIN else tuple(quant_shape_to_byte_shape(shape, quantisation))
    n_bytes = math.prod(shape) * block_bytes // block
    if start + offset + n_bytes > len(buffer):
        raise ValueError(f"it ends within the tensor {name}")
    data = np.frombuffer(buffer, dtype, n_bytes // dtype.itemsize, start + offset).reshape(stored)
    return GGUFTensor(name, shape, quantisation, data)


class _Header:
    """Reads the header from front to back; whatever goes beyond the file is an error."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self.buffer, self.at = buffer, 0

    def take(self, size: int) -> bytes:
        if size > len(self.buffer) - self.at:
            raise ValueError("it ends within its header")
        self.at += size
        return self.buffer[self.at - size : self.at]

    def number(self, dtype: str) -> Any:
        return self.numbers(dtype, 1)[0]

    def numbers(self, dtype: str, count: int) -> list[Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype).tolist()

    def string(self) -> str:
        (size,) = struct.unpack("<Q", self.take(8))
        return self.take(size).decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("<u4"), self.number("<u8")
            if inner in _SCALARS:
                return self.numbers(_SCALARS[inner], count)
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"value type {kind} is unknown")
        return self.number(_SCALARS[kind])

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape (rows first), format and place after the start of the data."""
        name = self.string()
        shape = self.numbers("<u8", self.number("<u4"))
        return name, tuple(reversed(shape)), self.number("<u4"), self.number("<u8")
