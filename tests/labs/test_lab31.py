import pytest

from cutaway.labs.contract import Setting, verdict
from cutaway.labs.lab31_chain_rule import LAB, measure


@pytest.mark.parametrize("seed", [0, 1])
def test_verdict_is_the_expected_one(seed):
    numbers = measure(Setting(seed=seed))
    assert verdict(LAB.checks, numbers)[0] == LAB.expected, numbers
    assert numbers["largest_relative_error"] < 1e-13
    assert numbers["tensors"] == len(numbers["tensor_errors"]) == 4 * 9 + 2
    LAB.draw(numbers)
