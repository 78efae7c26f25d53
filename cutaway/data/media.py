"""What images and sounds have in common: a source that is opened, a decoder that may fail, a `preprocessor_config.json`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from cutaway.core.errors import CheckpointError, CutawayError, DataError

Source = str | Path | bytes  # a file's path, or what is in it
PREPROCESSOR = "preprocessor_config.json"


@contextmanager
def decoding(source: Source, field: str) -> Iterator[BinaryIO]:
    """The source, open for reading; whatever a decoder raises in the block becomes a `DataError` that names the source.

    Args:
        field: what the user calls it: image or audio.

    Raises:
        DataError: no such file, no permission, not a file, empty, or it does not decode.
    """
    name = source_name(source)
    with _open(source, field) as file:
        if not file.read(1):
            raise DataError("is empty", field=field, value=name)
        file.seek(0)
        try:
            yield file
        except CutawayError:
            raise
        except Exception as err:  # inside a decoder, a broken file can raise anything
            raise DataError(f"does not decode: {err}", field=field, value=name) from err


def source_name(source: Source) -> str:
    """A source as messages show it."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def read_preprocessor(folder: Path) -> dict[str, Any]:
    """The `preprocessor_config.json` of a Hugging Face folder: how its model wants images or sounds."""
    path = folder / PREPROCESSOR
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"holds no {PREPROCESSOR}", field="model", value=str(folder)) from None
    except (OSError, ValueError) as err:
        raise CheckpointError(f"cannot be read: {err}", field=PREPROCESSOR, value=str(path)) from None
    if not isinstance(values, dict):
        raise CheckpointError("is not a JSON object", field=PREPROCESSOR, value=str(path))
    return values


def _open(source: Source, field: str) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    path = Path(source).expanduser()
    try:
        if path.exists() and not path.is_file():
            raise DataError("is not a file", field=field, value=str(source))
        return path.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", field=field, value=str(source)) from None
    except OSError as err:
        raise DataError(f"may not be read ({err.strerror})", field=field, value=str(source)) from None
