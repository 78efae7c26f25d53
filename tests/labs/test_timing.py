"""The clock of the labs."""

import time

from cutaway.labs.timing import fastest_ms


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_works_take_turns_and_the_fewest_milliseconds_count():
    turns = []

    def first() -> None:
        turns.append("first")
        spin(0.001 if len(turns) > 2 else 0.02)

    def second() -> None:
        turns.append("second")
        time.sleep(0.01)  # costs the processor nothing

    found = fastest_ms(first, second, times=2)
    assert turns == ["first", "second"] * 3
    assert 1 <= found[0] < 15
    assert found[1] < 5
