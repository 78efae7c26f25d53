"""BERT's hidden states, ours and transformers'."""

import pytest
import torch
from transformers import AutoModel, BertConfig

from cutaway.models.huggingface import load_model, save_model
from cutaway.nn.masks import padding_mask

SHAPE = dict(vocab_size=89, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50)


@pytest.mark.parametrize("over", [{}, {"num_attention_heads": 1}, {"type_vocab_size": 3, "layer_norm_eps": 1e-5}])
@torch.no_grad()
def test_hidden_states_equal_and_come_back_equal(over, both, tmp_path):
    ours, theirs = both("BertModel", BertConfig(**{**SHAPE, **over}))
    ids, types = torch.randint(89, (2, 11)), torch.randint(2, (2, 11))
    lengths = torch.tensor([11, 6])
    real = torch.arange(11) < lengths[:, None]
    expected = theirs(ids, attention_mask=real.long(), token_type_ids=types).last_hidden_state[real]
    found = ours(ids, mask_BTS=padding_mask(lengths, 11), types_BT=types)[real]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    save_model(ours, None, tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    back = again(ids, attention_mask=real.long(), token_type_ids=types).last_hidden_state[real]
    torch.testing.assert_close(back, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_minilm(minilm):
    ours = load_model(minilm, torch.float32, torch.device("cpu"))
    theirs = AutoModel.from_pretrained(minilm).eval()
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (3, 19))
    lengths = torch.tensor([19, 4, 12])
    real = torch.arange(19) < lengths[:, None]
    expected = theirs(ids, attention_mask=real.long()).last_hidden_state[real]
    torch.testing.assert_close(ours(ids, mask_BTS=padding_mask(lengths, 19))[real], expected, atol=1e-4, rtol=1e-4)
