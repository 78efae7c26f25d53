"""The shape of the project: what may import what, what is public, what is loaded when, what is installed."""

import re
import subprocess
import sys
from importlib.metadata import distributions, requires

import pytest
import torch

import cutaway


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_areas_import_only_lower_ranks(root):
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
    assert "1 kept, 0 broken" in found.stdout


def test_architecture_page_names_every_area(root):
    page = (root / "docs" / "architecture.md").read_text()
    areas = sorted(path.parent.name for path in (root / "cutaway").glob("*/__init__.py"))
    rows = [row.split("|")[2] for row in page.splitlines() if re.match(r"\| \d", row)]
    named = sorted(area for row in rows for area in re.findall(r"`(\w+)`", row))
    assert named == areas


def test_no_file_lies_deeper_than_an_area(root):
    package = root / "cutaway"
    assert [str(p) for p in package.rglob("*.py") if len(p.relative_to(package).parts) > 2] == []


def test_public_surface():
    for name in cutaway.__all__:
        if name != "__version__":
            assert getattr(cutaway, name).__doc__, f"{name} is public and has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cutaway.nothing


def test_import_loads_no_torch():
    assert run_python("import sys, cutaway; print('torch' in sys.modules)").strip() == "False"


def test_help_loads_nothing_heavy():
    code = """
import sys
sys.argv = ["cutaway", "--help"]
from cutaway.cli.main import app
try:
    app()
except SystemExit:
    pass
heavy = {"torch", "numpy", "pydantic", "transformers", "lancedb", "fastapi", "tokenizers", "yaml"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    assert "HEAVY []" in run_python(code)


def test_every_command_has_help():
    listed = subprocess.run(
        [sys.executable, "-m", "cutaway", "--help"], capture_output=True, text=True, check=True
    ).stdout
    from cutaway.cli import main

    for command in main.app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__, f"cutaway {command.name} says nothing of itself"
        assert command.name in listed


def test_no_cuda_package_beside_torch():
    """A CPU build of torch brings no CUDA package, and nothing else may; a CUDA build brings its own and no more."""
    installed = {dist.metadata["Name"].lower(): dist for dist in distributions()}
    cuda = {name for name in installed if name.startswith(("nvidia-", "triton", "cuda-"))}
    allowed: set[str] = set()
    if torch.version.cuda is not None:
        todo = ["torch"]
        while todo:
            for need in requires(todo.pop()) or []:
                name = re.split(r"[\s\[;<>=!~(]", need.lower())[0]
                if name in installed and name not in allowed:
                    allowed.add(name)
                    todo.append(name)
    assert cuda <= allowed


def test_texts_speak_of_the_project_alone(root):
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    bad = []
    for name in tracked.stdout.splitlines():
        path = root / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".js", ".html", ".css", "") and path.is_file():
            text = path.read_text(errors="replace")
            if "vendor" not in name and re.search(r"/home/\w|/wor" + r"k/|pypi\.or" + r"g|registry\.npm", text):
                bad.append(name)
    assert bad == []
