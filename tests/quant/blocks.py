"""Random rows of blocks as files hold them."""

import torch
from torch import Tensor

from cutaway.quant.formats import FORMATS, Format

HALVES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
}
PLAIN = {"F16": torch.float16, "BF16": torch.bfloat16}
assert {*HALVES, *PLAIN} == set(FORMATS)


def random_rows(format: Format, R: int, N: int, seed: int = 0) -> Tensor:
    """R rows of N blocks; any byte but in the numbers of half precision, which are finite."""
    generator = torch.Generator().manual_seed(seed)
    if format.name in PLAIN:
        return torch.randn(R, N * format.columns, generator=generator).to(PLAIN[format.name]).view(torch.uint8)
    rows = torch.randint(0, 256, (R, N, format.stored), dtype=torch.uint8, generator=generator)
    for place in HALVES[format.name]:
        numbers = torch.randn(R, N, 1, generator=generator).half()
        rows[..., place : place + 2] = numbers.view(torch.uint8)
    return rows.flatten(1)
