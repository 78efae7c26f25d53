"""The C library's allocator, told to keep what is freed: a training step frees and takes the same memory again and again.

glibc gives the top of its heap back to the system whenever 128 KB of it are free, and large blocks, which it takes one by one, as
soon as they are freed; the next step then faults every page in anew. That is up to a fifth of a step (measured: docs/log.md).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt, malloc.h
_TRIM_DEFAULT, _MMAPS_DEFAULT = 128 * 2**10, 65536  # glibc's
_KEPT = 2**31 - 1  # bytes; the most that mallopt takes


@contextmanager
def kept_heap() -> Iterator[None]:
    """Inside, freed memory stays with the process; afterwards it is given back. Nothing but glibc has or needs it."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)  # large tensors too come from the heap
    libc.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MMAPS_DEFAULT)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        libc.malloc_trim(0)
