"""The token report says what the engine did."""

import json

import pytest
import torch

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.processors import History, process
from cutaway.decode.sampling import Sampling
from cutaway.lens.drawing import draw_report
from cutaway.lens.token_report import token_report

IDS = [10, 20, 30, 20, 40, 20, 50]
SAMPLING = Sampling(temperature=0.6, top_k=30, top_p=0.9, repetition_penalty=1.2, presence_penalty=0.3)


@pytest.mark.parametrize("position", [1, 4, 6])
def test_report_follows_the_model_and_the_chain(loaded, position):
    report = token_report(loaded, IDS, position, prompt_length=3, sampling=SAMPLING, alternatives=4)
    assert json.loads(json.dumps(report)) == report
    with torch.inference_mode():
        logits_V = loaded.model.logits(loaded.model(torch.tensor([IDS[:position]]))[0, -1])
    own_V = logits_V.softmax(-1)
    assert report["probability"] == pytest.approx(float(own_V[IDS[position]]), rel=1e-4)
    assert report["rank"] == 1 + sorted(own_V.tolist(), reverse=True).index(float(own_V[IDS[position]]))
    names = [stage["name"] for stage in report["stages"]]
    assert names == ["model", "repetition_penalty", "penalties", "temperature", "top_k", "top_p"]
    final_V = process(logits_V, SAMPLING, History(IDS[:position][:3], IDS[3:position])).softmax(-1)
    last = report["stages"][-1]
    assert last["kept"] == int((final_V > 0).sum())
    assert last["chosen"] == pytest.approx(float(final_V[IDS[position]]), rel=1e-4)
    assert [one["id"] for one in last["alternatives"]] == final_V.topk(min(4, last["kept"])).indices.tolist()
    assert [reading["layer"] for reading in report["logit_lens"]] == [1, 2, 3]
    assert report["logit_lens"][-1]["chosen"] == pytest.approx(report["probability"], rel=1e-4)
    assert [token["id"] for token in report["tokens"]] == IDS[:position]
    for heads in report["attention"]:
        for row in heads:
            assert len(row) == position
            assert sum(row) == pytest.approx(1, abs=1e-3)


def test_greedy_ends_with_one_token(loaded):
    stages = token_report(loaded, IDS, 5, sampling=Sampling(temperature=0))["stages"]
    assert [stage["name"] for stage in stages] == ["model", "greedy"]
    assert stages[-1]["kept"] == 1
    assert stages[-1]["alternatives"][0]["id"] == stages[0]["alternatives"][0]["id"]


def test_an_id_beyond_the_tokeniser_has_no_text(loaded):
    assert token_report(loaded, [1, 259], 1)["token"] == {"id": 259, "text": "", "bytes": []}


def test_no_hook_is_left(loaded):
    token_report(loaded, IDS, 3)
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_the_picture_is_drawn(loaded, tmp_path):
    draw_report(token_report(loaded, IDS, 6)).savefig(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("ids", "position", "more", "field"),
    [
        (IDS, 0, {}, "position"),
        (IDS, 7, {}, "position"),
        (IDS, -1, {}, "position"),
        ([5], 1, {}, "position"),
        ([], 1, {}, "position"),
        ([1, 260], 1, {}, "ids"),
        (IDS, 2, {"prompt_length": 8}, "prompt_length"),
        (IDS, 2, {"alternatives": 0}, "alternatives"),
        (IDS, 2, {"sampling": Sampling(logit_bias={999: 1})}, "logit_bias"),
    ],
)
def test_what_does_not_exist_is_refused_by_field(loaded, ids, position, more, field):
    with pytest.raises(RequestError) as caught:
        token_report(loaded, ids, position, **more)
    assert caught.value.field == field


def test_a_position_beyond_the_context_is_refused(loaded):
    with pytest.raises(ContextLengthError, match="64"):
        token_report(loaded, [1] * 80, 70)
