import pytest

from cutaway.labs.contract import verdict
from cutaway.labs.lab26_embedding_gradients import LAB


@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_rows_get_a_gradient_as_were_read(quick, seed):
    numbers = quick(26, seed=seed)
    assert numbers["rows_with_gradient"] == numbers["rows_read"] == 16


def test_without_the_limits_it_would_be_supported(quick):
    none = dict.fromkeys(("rows_with_gradient_tied", "unread_rows_moved_weight_decay", "unread_rows_moved_momentum"), 0)
    assert verdict(LAB.checks, {**quick(26), **none})[0] == "supported"
