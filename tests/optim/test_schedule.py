import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.optim.schedule import ScheduleConfig, lr_factor

KINDS = ("constant", "linear", "cosine", "wsd")


def factors(steps, **fields):
    return [lr_factor(ScheduleConfig(**fields), step, steps) for step in range(steps)]


def test_linear_values():
    assert factors(8, kind="linear", warmup=0.25, final=0.4) == pytest.approx([0.5, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_cosine_values():
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2 for done in (0, 0.25, 0.5, 0.75)]
    assert factors(4, kind="cosine", warmup=0) == pytest.approx(expected)


def test_constant_stays_after_the_warmup():
    assert factors(4, kind="constant", warmup=0.5) == [0.5, 1, 1, 1]


def test_wsd_warms_up_stays_and_falls():
    assert factors(10, kind="wsd", warmup=0.2, decay=0.4, final=0) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )


@given(
    kind=st.sampled_from(KINDS),
    steps=st.integers(1, 400),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.5),
    final=st.floats(0, 1),
)
def test_rises_then_falls_within_bounds(kind, steps, warmup, decay, final):
    values = factors(steps, kind=kind, warmup=warmup, decay=decay, final=final)
    warm = math.ceil(warmup * steps)
    assert all(0 < value <= 1 + 1e-9 or final == 0 for value in values)
    assert values[:warm] == sorted(values[:warm])
    rest = values[warm:]
    assert all(a >= b - 1e-12 for a, b in pairwise(rest))
    assert all(value >= final - 1e-12 for value in rest)
    assert max(values) == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "cosin"}, "kind"),
        ({"kind": "wsd", "warmup": 0.7, "decay": 0.5}, "more than the whole run"),
        ({"warmup": 1.5}, "warmup"),
        ({"warm": 0.1}, "did you mean warmup"),
    ],
)
def test_bad_schedules_are_named(fields, says):
    with pytest.raises(ConfigError, match=says):
        make_config(ScheduleConfig, fields)
