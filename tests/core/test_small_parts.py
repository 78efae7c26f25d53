import json
import random
import time

import numpy as np
import pytest
import torch

from cutaway.core.device import free_memory, pick_device, pick_dtype
from cutaway.core.errors import ConfigError, CutawayError, near_matches
from cutaway.core.progress import Progress, duration
from cutaway.core.seeds import random_state, restore_random_state, seed_all


def test_an_error_says_field_value_and_mend():
    err = CutawayError("is too large", field="top_p", value=3, hint="at most 1")
    assert str(err) == "top_p=3: is too large (at most 1)"
    assert len(str(CutawayError("no", field="text", value="x" * 999))) < 120


def test_near_matches():
    assert near_matches("bflaot16", ["bfloat16", "float32"]) == "did you mean bfloat16?"


def test_randomness_survives_json():
    seed_all(3)
    random.random(), np.random.normal(), torch.rand(3)
    state = json.loads(json.dumps(random_state()))
    draws = random.random(), np.random.normal(), torch.rand(3).tolist()
    seed_all(9)
    restore_random_state(state)
    assert (random.random(), np.random.normal(), torch.rand(3).tolist()) == draws


def test_devices_and_formats():
    cpu = pick_device("cpu")
    assert pick_dtype("float32", cpu) == torch.float32
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert free_memory(cpu) > 0
    with pytest.raises(ConfigError, match="did you mean bfloat16"):
        pick_dtype("bflaot16", cpu)
    with pytest.raises(ConfigError, match="device='tpu9'"):
        pick_device("tpu9")


def test_progress_says_rate_and_time_left(capsys):
    with Progress("reading", total=10, unit="file") as progress:
        time.sleep(0.01)
        progress.advance(5, chunks=3)
        line = progress.line(chunks=3)
    assert line.startswith("reading  5/10 file")
    assert "left" in line
    assert line.endswith("chunks 3")
    assert "reading: 5 file in" in capsys.readouterr().err
    assert [duration(s) for s in (4.26, 75, 7384)] == ["4.3 s", "1 min 15 s", "2 h 3 min"]
