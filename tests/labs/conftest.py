"""Every lab is measured once, however many tests ask for its numbers."""

from collections.abc import Callable
from functools import cache

import pytest

from cutaway.labs.contract import Numbers, Setting
from cutaway.labs.runner import find_lab


@pytest.fixture(scope="session")
def quick() -> Callable[..., Numbers]:
    """`quick(12)` or `quick(12, seed=1)`: the numbers of a lab's quick run."""
    measured = cache(lambda id, seed: find_lab(id).measure(Setting(seed=seed)))
    return lambda id, seed=0: measured(id, seed)
