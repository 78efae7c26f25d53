"""C++ files of the package, compiled on first use by the system's compiler with this machine's instructions, and kept.

The cache is keyed by the source and the headers beside it, the compiler and the processor, so a change of any of them compiles
anew.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
import warnings
from pathlib import Path

from cutaway.core.files import cache_dir

SOURCES = Path(__file__).parent.parent / "native"
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")


@functools.cache
def native_library(name: str) -> ctypes.CDLL | None:
    """The library of `native/<name>.cpp`; None, and a warning, where it cannot be compiled or loaded."""
    try:
        return ctypes.CDLL(str(_compiled(name)))
    except (OSError, subprocess.CalledProcessError) as err:
        warnings.warn(f"native/{name}.cpp is not used: {getattr(err, 'stderr', None) or err}", stacklevel=2)
        return None


def _compiled(name: str) -> Path:
    source = SOURCES / f"{name}.cpp"
    compiler = os.environ.get("CXX", "g++")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    texts = [path.read_text() for path in (source, *sorted(SOURCES.glob("*.h")))]
    key = hashlib.sha256("\0".join([*texts, version, " ".join(_FLAGS), _processor()]).encode()).hexdigest()
    library = cache_dir() / "native" / f"{name}-{key[:16]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            subprocess.run(
                [compiler, *_FLAGS, str(source), "-o", str(built)], capture_output=True, text=True, check=True
            )
            built.replace(library)  # whole, also when two processes build it at once
    return library


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}"
