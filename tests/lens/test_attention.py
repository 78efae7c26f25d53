"""Attention maps and what head scores mean."""

import pytest
import torch

from cutaway.lens.attention import attention_maps, head_scores, last_row
from cutaway.lens.hooks import capture, module_names
from cutaway.nn.attention import Attend


def test_maps_reproduce_what_the_model_computed(model):
    ids_BT = torch.randint(260, (2, 12))
    names = module_names(model, Attend)
    with capture(model, names) as calls, torch.inference_mode():
        model(ids_BT)
    maps = attention_maps(model, ids_BT)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    for weights_BHTS, name in zip(maps, names, strict=True):
        v_BGSK = calls[name].inputs[2]
        v_BHSK = v_BGSK.repeat_interleave(weights_BHTS.shape[1] // v_BGSK.shape[1], 1)
        torch.testing.assert_close(weights_BHTS @ v_BHSK, calls[name].output)
        torch.testing.assert_close(last_row(model.get_submodule(name), calls[name]), weights_BHTS[:, :, -1])


def test_a_position_bias_is_part_of_the_weights():
    model = torch.nn.ModuleDict({"attend": Attend(0.5)})
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    bias = torch.randn(1, 4, 6, 6)
    with capture(model, ["attend"]) as calls:
        out = model["attend"](q, k, v, None, bias)
    row = last_row(model["attend"], calls["attend"])
    torch.testing.assert_close((row[:, :, None] @ v)[:, :, 0], out[:, :, -1])


def head(where_TT) -> torch.Tensor:
    """One head that puts all its weight where it is told."""
    return where_TT.float()[None, None]


def test_scores_know_their_kind():
    ids = [*range(20), *range(20)]  # a sequence twice: what follows is known from the first time
    T = len(ids)
    query, key = torch.arange(T)[:, None], torch.arange(T)[None]
    kinds = {
        "previous": key == (query - 1).clamp(0),
        "induction": key == torch.where(query >= 20, query - 19, 0),
        "first": (key == 0).expand(T, T),
        "delimiter": key == torch.where(query >= 3, 3, 0),
    }
    for kind, where in kinds.items():
        scores = head_scores(head(where), ids, delimiters={3})
        assert float(scores[kind]) == pytest.approx(1)
        for other in set(kinds) - {kind}:
            assert float(scores[other]) < 0.6, (kind, other)
    assert float(head_scores(head(kinds["induction"]), ids, {3})["copy"]) == pytest.approx(1)


def test_a_kind_that_the_text_has_no_case_of_scores_zero():
    scores = head_scores(torch.ones(2, 3, 4, 4).tril() / 4, [1, 2, 3, 4], delimiters=set())
    assert not scores["induction"].any()
    assert scores["previous"].shape == (2, 3)
