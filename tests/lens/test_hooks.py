"""Hooks: they see the calls, and are gone afterwards."""

import pytest
import torch

from cutaway.core.errors import ConfigError
from cutaway.lens.hooks import capture


def hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_capture_sees_inputs_and_output(model):
    name = next(name for name, _ in model.named_modules() if name.endswith("mlp"))
    with capture(model, [name]) as calls, torch.no_grad():
        model(torch.arange(5)[None])
        assert hooks(model) == 1
    torch.testing.assert_close(model.get_submodule(name)(*calls[name].inputs), calls[name].output)
    assert hooks(model) == 0


def test_hooks_go_when_the_block_fails(model):
    with pytest.raises(RuntimeError, match="broke"), capture(model, [""]):
        raise RuntimeError("broke")
    assert hooks(model) == 0


def test_an_unknown_module_is_named(model):
    with (
        pytest.raises(ConfigError, match=r"module='blocks.7': the model has no such module"),
        capture(model, ["blocks.7"]),
    ):
        pass
