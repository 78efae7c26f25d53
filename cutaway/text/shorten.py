"""What is left out of a prompt that is longer than the context: the oldest.

Nothing is left out unless it is asked for; a prompt that does not fit is refused (`infer.engine`).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FIRST_ROLES = ("system", "developer")


def latest(ids: Sequence[int], room: int, kept: int = 0) -> list[int]:
    """The last of a text's tokens that fit into `room`, after its first `kept` (a begin-of-text token).

    >>> latest([1, 20, 21, 22, 23], 3, kept=1)
    [1, 22, 23]
    """
    over = len(ids) - room
    return list(ids) if over <= 0 else [*ids[:kept], *ids[kept + over :]]


def latest_turns(
    messages: Sequence[Mapping[str, Any]], fits: Callable[[list[Mapping[str, Any]]], bool]
) -> list[Mapping[str, Any]]:
    """A conversation without its oldest turns, as few as must go until it fits.

    What the system said at the beginning stays, and so does the last turn, even where it alone does not fit. A turn begins with
    a user's message and ends before the next one, so that a reply never loses its question, nor a tool's answer its call.

    Args:
        fits: whether a conversation, rendered, leaves room for a reply; a shorter one fits where a longer one does.
    """
    begin = next((place for place, one in enumerate(messages) if one["role"] not in FIRST_ROLES), len(messages))
    starts = [place for place in range(begin, len(messages)) if place == begin or messages[place]["role"] == "user"]

    def without(turns: int) -> list[Mapping[str, Any]]:
        return [*messages[:begin], *messages[starts[turns] :]] if starts else list(messages)

    last = max(len(starts) - 1, 0)
    return without(bisect_left(range(last), True, key=lambda turns: fits(without(turns))))
