"""The C library's allocator, told to keep what is freed: a training step frees and takes the same memory again and again.

glibc gives the top of its heap back to the system whenever 128 KB of it are free; the next step then faults every page in anew.
With many weights of a megabyte each that is a fifth of a step (measured: docs/log.md).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, malloc.h
_TRIM_DEFAULT, _MMAP_MOST = 128 * 2**10, 32 * 2**20  # glibc's
_KEPT = 2**31 - 1  # bytes; the most that mallopt takes


@contextmanager
def kept_heap() -> Iterator[None]:
    """Inside, freed memory stays with the process; afterwards it is given back. Nothing but glibc has or needs it."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _MMAP_MOST)
    libc.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        libc.malloc_trim(0)
