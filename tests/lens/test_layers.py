"""A text goes through every family; what cannot read one is refused by name."""

import pytest
import torch

from cutaway.core.errors import ConfigError, ContextLengthError, RequestError
from cutaway.lens.layers import down_projections, layer_names, read_input, text_loss
from cutaway.models.families import make_model
from cutaway.models.gpt2 import GPT2, GPT2Config
from cutaway.nn.experts import expert_layers

IDS = torch.tensor([[5, 77, 5, 200, 31]])


def test_every_family_reads(any_model):
    assert read_input(any_model, IDS).shape == (1, 5, 24)
    names = layer_names(any_model)
    assert len(names) == 2
    experts = expert_layers(any_model)
    for name in names:
        found = down_projections(any_model.get_submodule(name))
        own = [len(layer.experts) for path, layer in experts.items() if path.startswith(name)]
        shared = sum("shared" in path for path in found)
        assert len(found) == (own[0] if own else 1) + shared, found
        for linear in found.values():
            assert linear.out_features == 24
            assert linear.in_features in (40, 96, 12, 256, 768)


def test_the_loss_is_that_of_the_next_token():
    model = GPT2(GPT2Config(vocab_size=260, n_embd=24, n_layer=1, n_head=3)).eval()
    log = model.logits(model(IDS)).log_softmax(-1)
    expected = -sum(log[0, t, IDS[0, t + 1]] for t in range(4)) / 4
    torch.testing.assert_close(text_loss(model, IDS), expected)


def test_every_head_for_words_has_a_loss(any_model):
    loss = text_loss(any_model, IDS)
    assert loss.dim() == 0
    assert 3 < float(loss.detach()) < 9  # near log 260


def test_a_model_without_a_head_has_none():
    model = make_model({"model_type": "bert", "vocab_size": 260, "hidden_size": 24, "num_attention_heads": 3})
    with pytest.raises(ConfigError, match="no head that says words"):
        text_loss(model, IDS)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (torch.zeros(1, 0, dtype=torch.int64), RequestError),
        (IDS + 200, RequestError),
        (IDS.repeat(1, 99), ContextLengthError),
    ],
)
def test_texts_that_cannot_be_read(model, ids, kind):
    with pytest.raises(kind):
        read_input(model, ids)


def test_one_token_has_no_next(model):
    with pytest.raises(RequestError, match="two tokens"):
        text_loss(model, IDS[:, :1])
