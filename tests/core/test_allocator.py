"""The allocator keeps what is freed, and gives it back afterwards."""

import ctypes
import subprocess
import sys

import pytest

MEASURE = """
import ctypes, re
from contextlib import nullcontext
from cutaway.core.allocator import kept_heap

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    return int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[7])  # minflt

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])

def step():
    sizes = [800_000] * 64 + [50_000_000]
    taken = [libc.malloc(size) for size in sizes]
    for place, size in zip(taken, sizes):
        ctypes.memset(place, 1, size)
    for place in taken:
        libc.free(place)

def faults_of_five(around):
    with around:
        step(), step()
        before = faults()
        for _ in range(5):
            step()
        return faults() - before, resident()

before = resident()
usual, _ = faults_of_five(nullcontext())
kept, holding = faults_of_five(kept_heap())
print(usual, kept, holding - before, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's allocator only")
def test_a_step_faults_no_page_in_again_and_the_end_gives_all_back():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    usual, kept, holding, left = map(int, run.stdout.split())
    size = 64 * 800_000 + 50_000_000  # of a step
    pages, kilobytes = size // 4096, size // 1000
    assert usual > 4 * pages
    assert kept < pages / 100
    assert holding > 0.9 * kilobytes
    assert left < 0.1 * kilobytes
