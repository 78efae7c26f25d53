"""Products with quantised matrices by `native/products.cpp`; whether that can be had here.

Shapes: N vectors, R rows and C columns of the matrix.
"""

import ctypes
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.core.native import native_library
from cutaway.quant.formats import Format


class Matrix(ctypes.Structure):
    """What `native/products.h` calls so."""

    _fields_: ClassVar = [
        ("tiles", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("format", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    ]


def matrix(tiles: Tensor, format: Format, rows: int, bias: Tensor | None = None) -> Matrix:
    """A view for the kernels; who makes it keeps the tensors alive.

    Args:
        tiles: as `Format.pack` makes them.
        bias: R, float32.
    """
    assert tiles.is_contiguous()
    assert bias is None or (bias.is_contiguous() and bias.dtype == torch.float32)
    return Matrix(
        tiles.data_ptr(), bias.data_ptr() if bias is not None else None, format.code, rows, _columns(tiles, format), 0
    )


def available(device: torch.device) -> bool:
    """Whether this machine has a compiler, and the numbers are where its kernels can read them."""
    return device.type == "cpu" and native_library("products") is not None


def product(x_NC: Tensor, tiles: Tensor, format: Format, rows: int) -> Tensor:
    """x Wᵀ in float32, N × R, on vectors that are rounded to 8 bits in groups of 32."""
    x_NC = x_NC.float().contiguous()
    y_NR = torch.empty(len(x_NC), rows)
    _library().product(
        ctypes.byref(matrix(tiles, format, rows)),
        ctypes.c_void_p(x_NC.data_ptr()),
        ctypes.c_long(len(x_NC)),
        ctypes.c_void_p(y_NR.data_ptr()),
        torch.get_num_threads(),
    )
    return y_NR


def weights_of(numbers: Tensor, tiles: Tensor, format: Format, rows: int) -> Tensor:
    """The weights of some rows in float32; `numbers` of any shape, … to … × C."""
    flat = numbers.flatten().to(torch.int64)
    out = torch.empty(len(flat), _columns(tiles, format))
    _library().rows(
        ctypes.byref(matrix(tiles, format, rows)),
        ctypes.c_void_p(flat.data_ptr()),
        ctypes.c_long(len(flat)),
        ctypes.c_void_p(out.data_ptr()),
    )
    return out.view(*numbers.shape, -1)


def _columns(tiles: Tensor, format: Format) -> int:
    return tiles.shape[1] * format.columns


def _library() -> ctypes.CDLL:
    library = native_library("products")
    assert library is not None, "ask `available` first"
    return library
