import pytest
import torch
from torch import nn

from cutaway.models.families import make_model
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.optim.groups import decayed_weights, parameter_groups


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def sizes(groups):
    return [(group["weight_decay"], sum(p.numel() for p in group["params"])) for group in groups]


def test_only_matrices_decay():
    assert sizes(parameter_groups(Tied(), 0.1)) == [(0.1, 16), (0.0, 20 + 8 + 4)]


def test_embeddings_decay_when_asked():
    assert sizes(parameter_groups(Tied(), 0.1, decay_embeddings=True)) == [(0.1, 36), (0.0, 12)]


@pytest.mark.parametrize(
    ("shape", "spared"),
    [
        ({"model_type": "vit"}, {"cls_token", "position_embeddings"}),
        ({"model_type": "t5"}, {"weight"}),  # of the relative positions
        ({"model_type": "composed", "positions": "relative"}, {"weight"}),
        ({"model_type": "rnn_seq2seq"}, set()),
    ],
)
def test_positions_class_tokens_and_relative_biases_are_no_matrices(shape, spared):
    with torch.device("meta"):
        model = make_model(shape)
    decayed = {id(weight) for weight in decayed_weights(model)}
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    others = {
        name
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and id(weight) not in decayed and id(weight) not in tables
    }
    assert {name.rpartition(".")[2] for name in others} == spared
    assert all("relative" in name or "weight" not in name for name in others)


def test_the_biases_of_stacked_experts_do_not_decay():
    model = nn.ModuleDict({"stack": nn.Linear(4, 4)})
    for name, shape in (("weight", (3, 4, 4)), ("bias", (3, 4))):
        setattr(model["stack"], name, nn.Parameter(torch.zeros(shape)))
    assert sizes(parameter_groups(model, 0.1, decay_embeddings=True)) == [(0.1, 48), (0.0, 12)]


def test_frozen_parameters_and_empty_groups_are_left_out():
    model = Tied().requires_grad_(False)
    model.middle.weight.requires_grad_(True)
    assert sizes(parameter_groups(model, 0.1)) == [(0.1, 16)]


def test_a_step_is_the_papers():
    """One step from zero moments: w ← w (1 − lr λ) − lr · sign(g) up to ε."""
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = make_adamw(model, OptimConfig(lr=0.01, weight_decay=0.5))
    model.weight.grad = torch.randn(2, 3)
    model.bias.grad = torch.randn(2)
    optimizer.step()
    expected = before * (1 - 0.01 * 0.5) - 0.01 * model.weight.grad.sign()
    torch.testing.assert_close(model.weight.detach(), expected, atol=1e-6, rtol=0)
