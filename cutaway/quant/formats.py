"""The number formats of GGUF files whose products we compute as they are, and their order in memory for that.

A file stores each row as blocks of columns. In memory a matrix is cut into tiles of 16 rows, a tile into blocks of the same
columns, and inside a block the codes of four columns of all 16 rows stand together (`native/products.h` reads them, and names the
formats in the same order). Codes, scales and offsets are the file's own: weight = scale · code + offset, nothing is rounded
again.

Shapes: R rows (a multiple of 16 in memory), J tiles of L = 16 rows, N blocks in a row, G groups of 32 columns in a block. All
tensors here are of bytes, unless said otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cutaway.quant import layout

L, GROUP = 16, 32


@dataclass(frozen=True)
class Format(ABC):
    """How numbers are stored.

    Args:
        code: its place in `FORMATS`, by which the kernels know it.
        columns, stored: columns of a block, and its bytes in a file.
    """

    name: str
    code: int
    columns: int
    stored: int

    @property
    @abstractmethod
    def tile_bytes(self) -> int:
        """Of one block of a tile: as many as 16 blocks of the file have, or a little more."""

    def pack(self, rows: Tensor) -> Tensor:
        """Rows of blocks as in a file, R × bytes, to tiles, J × N × tile_bytes."""
        rows = functional.pad(rows, (0, 0, 0, -len(rows) % L))
        return self._tiles(rows.view(len(rows), -1, self.stored))

    def rows(self, tiles: Tensor, count: int) -> Tensor:
        """The way back from `pack`: the first `count` rows of blocks."""
        return self._blocks(tiles).flatten(1)[:count]

    @abstractmethod
    def unpack(self, tiles: Tensor) -> Tensor:
        """Tiles to weights in float32, R × columns of the matrix: what the kernels multiply with."""

    @abstractmethod
    def finite(self, tiles: Tensor) -> bool:
        """Whether every weight is a number."""

    @abstractmethod
    def _tiles(self, blocks: Tensor) -> Tensor: ...

    @abstractmethod
    def _blocks(self, tiles: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Plain(Format):
    """Numbers of 16 bits; 32 columns are a block.

    Args:
        together: in a tile, columns whose numbers stand beside each other for each of 16 rows.
    """

    dtype: torch.dtype
    together: int

    @property
    def tile_bytes(self) -> int:
        return L * self.stored

    def unpack(self, tiles: Tensor) -> Tensor:
        J, N, _ = tiles.shape
        numbers = tiles.view(self.dtype).float().view(J, -1, L, self.together)
        return numbers.transpose(1, 2).reshape(J * L, N * self.columns)

    def finite(self, tiles: Tensor) -> bool:
        return bool(torch.isfinite(tiles.view(self.dtype)).all())

    def _tiles(self, blocks: Tensor) -> Tensor:
        R, N, _ = blocks.shape
        numbers = blocks.view(R // L, L, N, -1, 2 * self.together).permute(0, 2, 3, 1, 4)
        return numbers.reshape(R // L, N, self.tile_bytes)

    def _blocks(self, tiles: Tensor) -> Tensor:
        J, N, _ = tiles.shape
        numbers = tiles.view(J, N, -1, L, 2 * self.together).permute(0, 3, 1, 2, 4)
        return numbers.reshape(J * L, N, self.stored)


@dataclass(frozen=True)
class Blocks(Format):
    """Codes of a few bits, and numbers about them.

    Args:
        high_bits: those of a code beyond four; 4 means that a code is a whole byte.
        codes, numbers: what a file's block holds, in the order of the tile.
        together: the way back.
        values: codes in float32, J × N × G × 32 × L, and the numbers about them in tiles, to weights of the codes' shape.
    """

    high_bits: int
    codes: layout.Codes
    together: layout.Together
    numbers: layout.Numbers
    values: Callable[[Tensor, list[Tensor]], Tensor]

    @property
    def tile_bytes(self) -> int:
        return self._code_bytes + sum(L * width for width in self._number_widths)

    @property
    def _code_bytes(self) -> int:
        return L * self.columns * (4 + self.high_bits) // 8

    @property
    def _number_widths(self) -> list[int]:
        return [part.shape[-1] for part in self.numbers(torch.zeros(1, 1, self.stored, dtype=torch.uint8))]

    def _tiles(self, blocks: Tensor) -> Tensor:
        parts = [_by_quads(plane) for plane in self._planes(self.codes(blocks))]
        return torch.cat([torch.cat(parts, -1).flatten(2), *(_by_lanes(part) for part in self.numbers(blocks))], -1)

    def _blocks(self, tiles: Tensor) -> Tensor:
        J, N, _ = tiles.shape
        codes = self._codes(tiles).permute(0, 4, 1, 2, 3).reshape(J * L, N, self.columns)
        return self.together(codes, [_by_rows(part) for part in self._numbers(tiles)])

    def unpack(self, tiles: Tensor) -> Tensor:
        J, N, _ = tiles.shape
        weights = self.values(self._codes(tiles).float(), self._numbers(tiles))
        return weights.permute(0, 4, 1, 2, 3).reshape(J * L, N * self.columns)

    def finite(self, tiles: Tensor) -> bool:
        return all(
            bool(torch.isfinite(part.view(torch.float16)).all())
            for part in self._numbers(tiles)
            if len(part[0, 0]) == 2 * L
        )

    def _numbers(self, tiles: Tensor) -> list[Tensor]:
        """What a tile holds behind its codes: tensors J × N × bytes."""
        parts = tiles[..., self._code_bytes :].split([L * width for width in self._number_widths], -1)
        return [part.contiguous() for part in parts]

    def _planes(self, codes: Tensor) -> list[Tensor]:
        """Codes R × N × columns to what is stored of each group: tensors R × N × G × bytes."""
        c = codes.unflatten(-1, (-1, GROUP))
        if self.high_bits == 4:
            return [c]
        planes = [c[..., :16] & 15 | (c[..., 16:] & 15) << 4]
        high = c >> 4
        if self.high_bits == 1:
            planes.append(layout.joined(high.unflatten(-1, (8, 4)), 1))
        if self.high_bits == 2:
            planes += [layout.joined(side.unflatten(-1, (4, 4)), 2) for side in high.split(16, -1)]
        return planes

    def _codes(self, tiles: Tensor) -> Tensor:
        """J × N × G × 32 × L."""
        groups = tiles[..., : self._code_bytes].view(*tiles.shape[:2], self.columns // GROUP, -1)
        quads = groups.unflatten(-1, (-1, L, 4)).transpose(-1, -2)  # … × quads × 4 × L
        if self.high_bits == 4:
            return quads.flatten(-3, -2)
        low = torch.cat((quads[..., :4, :, :] & 15, quads[..., :4, :, :] >> 4), -3)
        if self.high_bits == 1:
            low = low | torch.stack([quads[..., 4, :, :] >> j & 1 for j in range(8)], -3) << 4
        if self.high_bits == 2:
            high = [quads[..., 4 + side, :, :] >> 2 * j & 3 for side in range(2) for j in range(4)]
            low = low | torch.stack(high, -3) << 4
        return low.flatten(-3, -2)


def _by_quads(plane: Tensor) -> Tensor:
    """R × N × G × bytes to J × N × G × (quads · L · 4)."""
    R, N, G, width = plane.shape
    return plane.view(R // L, L, N, G, width // 4, 4).permute(0, 2, 3, 4, 1, 5).reshape(R // L, N, G, L * width)


def _by_lanes(scale: Tensor) -> Tensor:
    """R × N × (numbers · bytes of each) to J × N × (numbers · L · bytes of each); see `_numbers`."""
    R, N, width = scale.shape
    size = 2 if width == 2 else 1
    return scale.view(R // L, L, N, width // size, size).permute(0, 2, 3, 1, 4).reshape(R // L, N, L * width)


def _by_rows(part: Tensor) -> Tensor:
    """The way back from `_by_lanes`."""
    J, N, width = part.shape
    size = 2 if width == 2 * L else 1
    return part.view(J, N, -1, L, size).permute(0, 3, 1, 2, 4).reshape(J * L, N, width // L)


def _halves(scale: Tensor) -> Tensor:
    """Numbers in half precision, J × N × 2 L bytes, to J × N × 1 × 1 × L in float32."""
    return scale.view(torch.float16).float()[:, :, None, None]


def _bytes(scale: Tensor, per_group: int = 1, signed: bool = False) -> Tensor:
    """J × N × (G · per_group · L) to J × N × G × 32 × L in float32."""
    numbers = (scale.view(torch.int8) if signed else scale).float().unflatten(-1, (-1, per_group, L))
    return numbers.repeat_interleave(GROUP // per_group, -2)


def _k_values(codes: Tensor, scales: list[Tensor]) -> Tensor:
    both, d, dmin = scales
    scale, minimum = both.unflatten(-1, (-1, 2, L)).unbind(-2)
    return codes * (_halves(d) * _bytes(scale.flatten(-2))) - _halves(dmin) * _bytes(minimum.flatten(-2))


def _q6_values(codes: Tensor, scales: list[Tensor]) -> Tensor:
    per_half, d = scales
    return (codes - 32) * (_halves(d) * _bytes(per_half, 2, signed=True))


def _symmetric(zero: int) -> Callable[[Tensor, list[Tensor]], Tensor]:
    return lambda codes, numbers: (codes - zero) * _halves(numbers[0])


def _affine(codes: Tensor, numbers: list[Tensor]) -> Tensor:
    return codes * _halves(numbers[0]) + _halves(numbers[1])


_4, _5, _8 = (
    (layout.q4_codes, layout.q4_together),
    (layout.q5_codes, layout.q5_together),
    (layout.q8_codes, layout.q8_together),
)
_4K, _5K, _6K = (
    (layout.q4k_codes, layout.q4k_together),
    (layout.q5k_codes, layout.q5k_together),
    (layout.q6k_codes, layout.q6k_together),
)
_ALL: tuple[Format, ...] = (
    Blocks("Q4_0", 0, 32, 18, 0, *_4, layout.d_only, _symmetric(8)),
    Blocks("Q4_1", 1, 32, 20, 0, *_4, layout.d_and_m, _affine),
    Blocks("Q8_0", 2, 32, 34, 4, *_8, layout.d_only, _symmetric(128)),
    Blocks("Q4_K", 3, 256, 144, 0, *_4K, layout.k_numbers, _k_values),
    Blocks("Q5_K", 4, 256, 176, 1, *_5K, layout.k_numbers, _k_values),
    Blocks("Q6_K", 5, 256, 210, 2, *_6K, layout.q6k_numbers, _q6_values),
    Blocks("Q5_0", 6, 32, 22, 1, *_5, layout.d_only, _symmetric(16)),
    Blocks("Q5_1", 7, 32, 24, 1, *_5, layout.d_and_m, _affine),
    Plain("F16", 8, 32, 64, torch.float16, 1),
    Plain("BF16", 9, 32, 64, torch.bfloat16, 2),
)

FORMATS: dict[str, Format] = {format.name: format for format in _ALL}
