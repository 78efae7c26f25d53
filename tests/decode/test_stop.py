"""Stop strings over text that comes in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.decode.stop import StopStrings


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.data())
def test_streamed_equals_whole(text, strings, data):
    """However the text is cut, what comes out is what stands before the stop string that is complete first."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stop = StopStrings(strings)
    out = ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out += stop.push(text[start:end])
    if not stop.hit:
        out += stop.flush()
    assert stop.hit == any(string in text for string in strings)
    assert text.startswith(out)
    assert not any(string in out for string in strings)
    if not stop.hit:
        assert out == text


def test_text_that_may_begin_a_stop_string_waits():
    stop = StopStrings(["END"])
    assert stop.push("the E") == "the "
    assert stop.push("N") == ""
    assert stop.push("E") == "ENE"[:2]
    assert stop.flush() == "E"


@pytest.mark.parametrize("pieces", [["aEND b"], ["aE", "ND", " b"], list("aEND b")])
def test_a_stop_string_across_borders(pieces):
    stop = StopStrings(["END"])
    assert "".join(stop.push(piece) for piece in pieces) == "a"
    assert stop.hit
    assert stop.push("more") == ""
