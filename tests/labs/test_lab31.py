import pytest


@pytest.mark.parametrize("seed", [0, 1])
def test_every_tensor_of_the_transformer_is_right(quick, seed):
    numbers = quick(31, seed=seed)
    assert numbers["largest_relative_error"] < 1e-13
    assert numbers["tensors"] == len(numbers["tensor_errors"]) == 4 * 9 + 2
