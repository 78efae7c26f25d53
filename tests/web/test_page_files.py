"""The page's files: its libraries are the pinned ones, its texts are complete in both languages, its policy can be strict."""

import json
import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def web(root):
    return root / "web"


@pytest.fixture(scope="module")
def scripts(web):
    return {path.name: path.read_text() for path in sorted(web.glob("*.js"))}


@pytest.fixture(scope="module")
def words(scripts):
    """The keys of words.js and how many languages each has."""
    entries = re.findall(r'^  (?:"([\w.]+)"|(\w+)): \[(.*?)\],$', scripts["words.js"], re.M | re.S)
    strings = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s*\+\s*"(?:[^"\\]|\\.)*")*')
    return {quoted or bare: strings.findall(texts) for quoted, bare, texts in entries}


def test_libraries_are_as_pinned(root):
    checked = subprocess.run(
        [sys.executable, "tools/vendor_web.py", "--check"], cwd=root, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_every_library_ships_with_its_licence(web):
    for package in json.loads((web / "vendor" / "versions.json").read_text()):
        assert any(file["to"].startswith("licences/") for file in package["files"]), package["name"]
    pinned = {
        file["to"] for package in json.loads((web / "vendor/versions.json").read_text()) for file in package["files"]
    }
    assert {str(p.relative_to(web / "vendor")) for p in (web / "vendor").rglob("*") if p.is_file()} == {
        *pinned,
        "versions.json",
    }


def test_every_text_is_in_both_languages(words):
    assert len(words) > 100
    for key, texts in words.items():
        assert len(texts) == 2, key
        assert re.findall(r"\{\w+\}", texts[0]) == re.findall(r"\{\w+\}", texts[1]) or sorted(
            re.findall(r"\{\w+\}", texts[0])
        ) == sorted(re.findall(r"\{\w+\}", texts[1])), key


def test_every_text_asked_for_exists_and_none_is_left_over(scripts, words):
    code = "".join(text for name, text in scripts.items() if name != "words.js")
    prefixes = set(re.findall(r"t\(`([\w.]+\.)\$\{", code))
    asked = set(re.findall(r'"([a-z]+\.[\w.]+)"', code)) | set(re.findall(r'\bt\("([\w.]+)"', code))
    assert {key for key in re.findall(r'\bt\("([\w.]+)"', code)} <= set(words)
    left_over = {key for key in words if key not in asked and not any(key.startswith(p) for p in prefixes)}
    assert {key for key in left_over if not key.endswith((".help", ".lacking"))} == set()


def test_page_needs_no_inline_script_and_no_other_origin(web, scripts):
    page = (web / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\son\w+=|style=", page) == []
    for name, text in {**scripts, "index.html": page}.items():
        assert "http://" not in text.replace("http://www.w3.org", ""), name
        assert "https://" not in text, name
