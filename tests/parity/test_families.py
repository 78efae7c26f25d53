"""Every configuration of every family equals its reference, writes the same tokens, and is saved and read in both directions."""

import re

import pytest

from cutaway.models.families import families
from tests.parity.sides import Measured, measure
from tests.parity.table import KINDS, REAL, Line, as_json, as_markdown


def close(found: Measured, bound: float = 1e-5) -> None:
    """Bounds are absolute, and relative to what is larger than one."""
    for name, gap in found.differences.items():
        assert gap <= bound * max(1, found.sizes[name]), name
    assert found.saved is None or found.saved <= bound * max(1, *found.sizes.values())
    assert found.reloaded
    assert found.tokens is None or found.tokens[0] == found.tokens[1] > 0


CASES = [pytest.param(kind, case, id=case) for kind in KINDS for case in kind.cases]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_equals_the_reference(kind, case, tmp_path):
    close(measure(kind, case, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_weights_equal_the_reference(name, smollm2, minilm, tmp_path):
    kind = REAL[name]
    (case,) = kind.cases
    close(measure(kind, case, tmp_path))


def test_the_page_lists_every_family(root):
    page = (root / "docs" / "parity.md").read_text()
    listed = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert listed == set(families()), (
        "state its cases in tests/parity and run `python -m tests.parity --out docs/parity.md`"
    )


def test_a_difference_is_told():
    found = Measured("llama", {"logits": 0.25}, {"logits": 3.0}, 0.5, False, (12, 11))
    page = as_markdown([Line("odd", "transformers", found)])
    assert "| `llama` | transformers | 1 | 2.5e-01 | 3 | 11 of 12 | 0.5 | NOT ALL |" in page
    assert as_json([Line("odd", "transformers", found)])["cases"][0]["differences"] == {"logits": 0.25}
    with pytest.raises(AssertionError, match="logits"):
        close(found)
