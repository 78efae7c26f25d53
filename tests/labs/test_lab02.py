"""Lab 2: its measures, and the packaged model's own inputs."""

import pytest

from cutaway.labs.lab02_attention import delimiter_ids, uniform


@pytest.mark.slow
def test_the_fused_kernel_is_the_equation(smollm2, quick):
    assert quick(2)["fused_difference"] < 1e-4


def test_chance_looks_at_all_earlier_tokens_alike():
    assert uniform(4)[0, 0, 3].tolist() == [0.25] * 4
    assert uniform(4)[0, 0, 0].tolist() == [1, 0, 0, 0]


def test_delimiters_are_those_without_letters():
    class Tokens:
        def token_text(self, id):
            return [" the", ".", "\n\n", "12"][id]

    assert delimiter_ids(Tokens(), [0, 1, 2, 3]) == {1, 2}
