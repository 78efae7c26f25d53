"""Files that are whole or not there: every write goes to a temporary sibling that is flushed and renamed."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from cutaway.core.errors import ResourceError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, flush it and rename it to `path`.

    Raises:
        ResourceError: nothing can be written there, or the disk is full; `path` is as it was.
    """
    with _refusal_is_ours(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        with disk_full_is_ours(path):
            yield temporary
            _flush(temporary)
        with _refusal_is_ours(path):
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, it takes the place of `path`.

    A folder that stood there is moved aside first and removed last, so that a kill at any moment leaves the old one or
    the new one whole: `recover_folder` undoes a swap that was cut in the middle.

    Raises:
        ResourceError: as `new_file`.
    """
    with _refusal_is_ours(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new."))
    try:
        with disk_full_is_ours(path):
            yield temporary
            for file in temporary.rglob("*"):
                _flush(file)
        temporary.chmod(0o777 & ~_umask())
        old = path.with_name(f".{path.name}.old")
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
        os.replace(temporary, path)
        _flush(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Finish what a kill during `new_folder` cut short: put the old folder back if the new one never arrived."""
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.exists():
        os.replace(old, path)
    for leftover in path.parent.glob(f".{path.name}.new.*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Inside, no other process is alone with `path`; those that want to be wait. Whoever ends, however, leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file.fileno(), lock):
                continue  # who had it took it away; somebody may have made another
            try:
                yield
            finally:
                lock.unlink()
            return


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file, or leave what was there."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def disk_full_is_ours(path: Path) -> Iterator[None]:
    """Turn 'no space left on device', whoever raises it, into a `ResourceError` that names `path`."""
    try:
        yield
    except Exception as err:
        full = (getattr(err, "errno", None) in (errno.ENOSPC, errno.EDQUOT)) or "No space left on device" in str(err)
        if full:
            raise ResourceError("the disk is full; nothing was changed", field="path", value=str(path)) from err
        raise


@contextmanager
def _refusal_is_ours(path: Path) -> Iterator[None]:
    """Turn what the system refuses (no right, no such place, a file where a folder should be) into a `ResourceError`."""
    try:
        yield
    except OSError as err:
        raise ResourceError(f"cannot be written: {err.strerror}", field="path", value=str(path)) from None


def resource(name: str) -> Path:
    """A folder that ships with Cutaway (`web`, `docs/topics`): in the installed package, or beside it in a checkout."""
    package = Path(str(files("cutaway")))
    for root in (package, package.parent):
        if (root / name).exists():
            return root / name
    raise ResourceError(f"{name} is missing from this installation of Cutaway", hint="install it again")


def cache_dir() -> Path:
    """Where Cutaway keeps what it can make again: `$CUTAWAY_HOME`, else `~/.cache/cutaway`."""
    return Path(os.environ.get("CUTAWAY_HOME", "~/.cache/cutaway")).expanduser()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that stands there now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
