from cutaway.labs.contract import Setting, verdict
from cutaway.labs.lab32_attention_score import LAB, measure


def test_verdict_is_the_expected_one(smollm2):
    numbers = measure(Setting())
    assert verdict(LAB.checks, numbers)[0] == LAB.expected, numbers
    LAB.draw(numbers)
