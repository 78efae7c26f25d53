"""Every error that Cutaway raises on purpose, on one page.

All of them say what the user gave, where, and what would be right. The command line prints the message and leaves
with `exit_code`; the server answers with `http_status`. Anything else that escapes is a bug and keeps its traceback.

    CutawayError
    ├── ConfigError          a configuration key or value
    ├── DataError            a file or row of the user's data
    ├── CheckpointError      weights, a model folder or a model file
    │   └── UnsafeFileError  a pickle, which could run code
    ├── TokenizerError       a tokeniser or a chat template
    ├── RequestError         a request to the engine or the server
    │   ├── ContextLengthError  more tokens than the model can hold
    │   └── BusyError        no room now; try again
    ├── ResourceError        memory, disk or a missing optional package
    ├── TrainingError        training cannot go on
    │   ├── NonFiniteLossError
    │   ├── NothingSupervisedError
    │   └── LostProcessError  another process of the run failed
    └── Interrupted          the user pressed Ctrl-C; the work is saved
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CutawayError(Exception):
    """A mistake that the user can mend.

    Args:
        message: what is wrong, in one sentence.
        field: the flag, key or request field as the user writes it.
        value: what the user gave (shortened when long).
        hint: what would be right.
    """

    exit_code = 2
    http_status = 400

    def __init__(self, message: str, *, field: str | None = None, value: object = None, hint: str | None = None):
        self.message, self.field, self.value, self.hint = message, field, value, hint
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.field}" if self.field else ""
        if self.field and self.value is not None:
            shown = repr(self.value)
            where += f"={shown if len(shown) <= 80 else shown[:30] + '…' + shown[-49:]}"
        return ": ".join(filter(None, (where, self.message))) + (f" ({self.hint})" if self.hint else "")


class ConfigError(CutawayError):
    """A configuration key that does not exist, or a value of the wrong type or range."""


class DataError(CutawayError):
    """A file or row that is missing, empty, binary, mis-encoded or misshapen."""


class CheckpointError(CutawayError):
    """Weights or a model folder that are missing, truncated, corrupt or do not match."""


class UnsafeFileError(CheckpointError):
    """A file that could run code when it is loaded."""


class TokenizerError(CutawayError):
    """A tokeniser file or chat template that cannot be used."""


class RequestError(CutawayError):
    """A request that cannot be served as it stands."""


class ContextLengthError(RequestError):
    """A prompt, or a prompt with the tokens asked for, that is longer than the model's context."""


class BusyError(RequestError):
    """No room for this request now."""

    http_status = 429


class ResourceError(CutawayError):
    """Not enough memory or disk, or an optional package that is not installed."""

    http_status = 503


class TrainingError(CutawayError):
    """Training cannot go on; the last checkpoint is whole."""

    exit_code = 1


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite; the optimiser did not step on it."""


class NothingSupervisedError(TrainingError):
    """A batch holds no token that the loss looks at."""

    exit_code = 2


class LostProcessError(TrainingError):
    """Another process of the run raised an error or died; the last checkpoint is whole, and the same command goes on from it."""


class Interrupted(CutawayError):  # noqa: N818 - nothing went wrong
    """The user stopped the work; it is saved and can be resumed."""

    exit_code = 130


def near_matches(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known.

    >>> near_matches("temprature", ["temperature", "top_k"])
    'did you mean temperature?'
    >>> near_matches("x", ["a", "b"])
    'known: a, b'
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
