"""What holds for every lab that is found: its quick run gives the verdict that it expects, its plot can be drawn, it speaks both
languages and has a page in both, which is the guide that `cutaway up` reads."""

import io
import re

import pytest

from cutaway.core.files import resource
from cutaway.labs.contract import verdict
from cutaway.labs.runner import find_lab, known_labs

PACKAGED = {id: ["smollm2"] for id in (2, 5, 6, 12, 32)} | {28: ["smollm2", "minilm"]}
HAN = r"[\u4e00-\u9fff]"
AGAIN = (1, 16, 25, 26, 31)  # quick enough for a second seed


@pytest.mark.slow
@pytest.mark.parametrize(("id", "seed"), [*((id, 0) for id in known_labs()), *((id, 1) for id in AGAIN)])
def test_the_quick_run_gives_the_expected_verdict(id, seed, quick, request):
    for name in PACKAGED.get(id, ()):
        request.getfixturevalue(name)
    lab, numbers = find_lab(id), quick(id, seed=seed)
    assert verdict(lab.checks, numbers)[0] == lab.expected, numbers
    lab.draw(numbers).savefig(io.BytesIO(), dpi=30)


@pytest.mark.parametrize("id", known_labs())
def test_both_languages_say_everything(id):
    lab = find_lab(id)
    assert lab.id == id
    for text in (lab.title, lab.claim, lab.fixed, *(check.says for check in lab.checks)):
        assert not re.search(HAN, text.en)
        assert re.search(HAN, text.zh), text
    for language in ("en", "zh"):
        [page] = resource("docs/topics").glob(f"{id:02d}-*.{language}.md")
        assert f"cutaway labs run {id}" in " ".join(page.read_text("utf-8").split())
