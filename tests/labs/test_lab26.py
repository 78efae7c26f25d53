import pytest

from cutaway.labs.contract import Setting, verdict
from cutaway.labs.lab26_embedding_gradients import LAB, measure


@pytest.mark.parametrize("seed", [0, 1])
def test_verdict_is_the_expected_one(seed):
    numbers = measure(Setting(seed=seed))
    assert verdict(LAB.checks, numbers)[0] == LAB.expected, numbers
    assert numbers["rows_with_gradient"] == numbers["rows_read"] == 16
    LAB.draw(numbers)


def test_without_the_limits_it_would_be_supported():
    none = dict.fromkeys(("rows_with_gradient_tied", "unread_rows_moved_weight_decay", "unread_rows_moved_momentum"), 0)
    assert verdict(LAB.checks, {**measure(Setting()), **none})[0] == "supported"
