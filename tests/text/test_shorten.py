"""Prompts without their oldest part."""

import pytest

from cutaway.text.shorten import latest, latest_turns


@pytest.mark.parametrize("room", range(2, 9))
@pytest.mark.parametrize("kept", [0, 1])
def test_the_latest_tokens_fill_the_room(room, kept):
    ids = [1, 20, 21, 22, 23, 24]
    left = latest(ids, room, kept)
    assert len(left) == min(room, len(ids))
    assert left[:kept] == ids[:kept]
    assert left[kept:] == ids[len(ids) - (len(left) - kept) :]


def conversation(*words: str) -> list[dict[str, str]]:
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[word[0]], "content": word} for word in words]


def shortened(messages, room):
    left = latest_turns(messages, lambda some: sum(len(one["content"]) for one in some) <= room)
    return " ".join(one["content"] for one in left)


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (99, "s1 u1 a1 u2 a2 t2 a3 u3"),
        (16, "s1 u1 a1 u2 a2 t2 a3 u3"),
        (15, "s1 u2 a2 t2 a3 u3"),
        (12, "s1 u2 a2 t2 a3 u3"),
        (11, "s1 u3"),
        (1, "s1 u3"),
    ],
)
def test_the_oldest_turns_go_whole(room, left):
    assert shortened(conversation("s1", "u1", "a1", "u2", "a2", "t2", "a3", "u3"), room) == left


def test_conversations_that_have_nothing_to_lose():
    assert shortened(conversation("u1"), 0) == "u1"
    assert shortened(conversation("s1"), 0) == "s1"
    assert shortened([], 0) == ""
    assert shortened(conversation("s1", "a0", "u1", "a1"), 6) == "s1 u1 a1"
