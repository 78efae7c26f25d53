import pytest
import torch

from cutaway.labs.contract import verdict
from cutaway.labs.lab46_encoder_decoder import LAB, flow, is_full, is_lower


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(46)


def test_flow_finds_which_output_reads_which_input():
    ids = torch.tensor([[3, 1, 2]])
    assert flow(lambda ids: ids.cumsum(1)[..., None], ids).tolist() == torch.ones(3, 3).tril().bool().tolist()
    assert flow(lambda ids: ids.sum(1, keepdim=True)[..., None], ids).tolist() == [[True, True, True]]


def test_shapes_of_flow():
    assert is_full([[1.0, 1.0]])
    assert not is_full([[1.0, 0.5]])
    assert is_lower([[1.0, 0.0], [1.0, 1.0]], 0)
    assert is_lower([[0.0, 0.0], [1.0, 0.0]], -1)
    assert not is_lower([[1.0, 1.0], [1.0, 1.0]], 0)


def test_a_prediction_that_saw_its_own_token_would_be_refuted(numbers):
    assert verdict(LAB.checks, {**numbers, "prediction": numbers["decoder"]})[0] == "refuted"


def test_a_mask_without_its_diagonal_would_lift_the_limit(numbers):
    answers = verdict(LAB.checks, {**numbers, "decoder": numbers["prediction"]})[1]
    assert not answers["own position"]
