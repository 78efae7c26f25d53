"""Every block format against the gguf package."""

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from cutaway.quant.formats import FORMATS
from tests.quant.blocks import random_rows


@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize("name", FORMATS)
def test_tiles_hold_the_weights_of_the_file(name, rows):
    format = FORMATS[name]
    blocks = random_rows(format, rows, 3)
    tiles = format.pack(blocks)
    expected = torch.from_numpy(dequantize(blocks.numpy(), GGMLQuantizationType[name]))
    assert torch.equal(format.unpack(tiles)[:rows], expected)
    assert tiles.shape == (-(-rows // 16), 3, format.tile_bytes)
    assert tiles.dtype == torch.uint8
    assert torch.equal(format.rows(tiles, rows), blocks)


@pytest.mark.parametrize("name", FORMATS)
def test_tiles_take_hardly_more_than_the_file(name):
    format = FORMATS[name]
    assert format.tile_bytes <= 1.03 * 16 * format.stored


def test_codes_are_the_places_that_kernels_know():
    assert [format.code for format in FORMATS.values()] == list(range(len(FORMATS)))
