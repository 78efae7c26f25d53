from cutaway.labs.contract import verdict
from cutaway.labs.lab16_out_of_vocabulary import LAB


def test_an_unknown_token_under_bytes_would_be_refuted(quick):
    numbers = quick(16)
    key = next(name for name in numbers if name.startswith("bpe_") and name.endswith("unknown_rate"))
    assert verdict(LAB.checks, {**numbers, key: [0.1] * len(numbers[key])})[0] == "refuted"
