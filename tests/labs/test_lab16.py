import pytest

from cutaway.labs.contract import Setting, verdict
from cutaway.labs.lab16_out_of_vocabulary import LAB, measure


@pytest.mark.parametrize("seed", [0, 1])
def test_verdict_is_the_expected_one(seed):
    numbers = measure(Setting(seed=seed))
    assert verdict(LAB.checks, numbers)[0] == LAB.expected, numbers
    LAB.draw(numbers)


def test_an_unknown_token_under_bytes_would_be_refuted():
    numbers = measure(Setting())
    key = next(name for name in numbers if name.startswith("bpe_") and name.endswith("unknown_rate"))
    assert verdict(LAB.checks, {**numbers, key: [0.1] * len(numbers[key])})[0] == "refuted"
