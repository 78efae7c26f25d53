"""Lab 2 on the packaged model: the verdict is the one expected."""

import pytest

from cutaway.labs.lab02_attention import LAB, delimiter_ids, uniform
from cutaway.labs.runner import run_lab


@pytest.mark.slow
def test_verdict(smollm2, tmp_path):
    record = run_lab(LAB, tmp_path, seeds=(0,), quick=True, model=None)
    assert record["verdict"] == LAB.expected
    assert record["numbers"]["fused_difference"] < 1e-4
    assert (tmp_path / "lab02.png").stat().st_size > 5_000


def test_chance_looks_at_all_earlier_tokens_alike():
    assert uniform(4)[0, 0, 3].tolist() == [0.25] * 4
    assert uniform(4)[0, 0, 0].tolist() == [1, 0, 0, 0]


def test_delimiters_are_those_without_letters():
    class Tokens:
        def token_text(self, id):
            return [" the", ".", "\n\n", "12"][id]

    assert delimiter_ids(Tokens(), [0, 1, 2, 3]) == {1, 2}
