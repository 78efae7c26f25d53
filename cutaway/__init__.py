"""Cutaway builds, adapts, aligns, grounds, serves and examines language models, with the casing off.

The names below are the public surface. Each is imported when it is first used, so that `import cutaway` stays cheap
and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CutawayError": "cutaway.core.errors",
    "Config": "cutaway.core.config",
}
__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from cutaway.core.config import Config as Config
    from cutaway.core.errors import CutawayError as CutawayError


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
