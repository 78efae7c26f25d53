"""BERT and RoBERTa, ours and transformers': hidden states, and the scores of every head."""

import pytest
import torch
import transformers
from transformers import AutoModel, BertConfig, RobertaConfig

from cutaway.models.bert_heads import with_head
from cutaway.models.huggingface import load_model, save_model
from cutaway.nn.masks import padding_mask

SHAPE = dict(vocab_size=89, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50)
SHAPE |= dict(max_position_embeddings=20)
ODD = {"num_attention_heads": 1, "type_vocab_size": 3, "layer_norm_eps": 1e-5, "id2label": {0: "a", 1: "b", 2: "c"}}
LENGTHS = torch.tensor([11, 6])
REAL = torch.arange(11) < LENGTHS[:, None]

LOGITS = {
    "ForMaskedLM": lambda ours, h: ours.logits(h)[REAL],
    "ForSequenceClassification": lambda ours, h: ours.label_logits(h),
    "ForTokenClassification": lambda ours, h: ours.label_logits(h)[REAL],
}


def inputs():
    torch.manual_seed(1)
    return torch.randint(3, 89, (2, 11)), torch.randint(2, (2, 11))


@pytest.mark.parametrize("over", [{}, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
@torch.no_grad()
def test_hidden_states_equal_and_come_back_equal(over, kind, both, tmp_path):
    name = kind.__name__.removesuffix("Config")
    ours, theirs = both(f"{name}Model", kind(**{**SHAPE, **over}))
    ids, types = inputs()
    asked = dict(attention_mask=REAL.long(), token_type_ids=types)
    ids[~REAL] = theirs.config.pad_token_id
    expected = theirs(ids, **asked).last_hidden_state[REAL]
    found = ours(ids, mask_BTS=padding_mask(LENGTHS, 11), types_BT=types)[REAL]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    save_model(ours, None, tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    torch.testing.assert_close(again(ids, **asked).last_hidden_state[REAL], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("over", [{}, {**ODD, "tie_word_embeddings": False}], ids=["plain", "odd, untied"])
@pytest.mark.parametrize("task", LOGITS)
@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
@torch.no_grad()
def test_heads(over, task, kind, both, tmp_path):
    name = f"{kind.__name__.removesuffix('Config')}{task}"
    ours, theirs = both(name, kind(**{**SHAPE, **over}))
    ids, types = inputs()
    ids[~REAL] = theirs.config.pad_token_id
    h_BTD = ours(ids, mask_BTS=padding_mask(LENGTHS, 11), types_BT=types)

    def scores(model):
        found = model(ids, attention_mask=REAL.long(), token_type_ids=types).logits
        return found[REAL] if found.dim() == 3 else found

    expected = scores(theirs)
    torch.testing.assert_close(LOGITS[task](ours, h_BTD), expected, atol=1e-4, rtol=1e-4)
    save_model(ours, None, tmp_path / "saved")
    again = getattr(transformers, name).from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(scores(again), expected, atol=1e-5, rtol=1e-5)
    assert list(again.config.id2label.values()) == list(theirs.config.id2label.values())


@torch.no_grad()
def test_words_and_pairs(both, tmp_path):
    ours, theirs = both("BertForPreTraining", BertConfig(**SHAPE))
    ids, types = inputs()
    asked = dict(attention_mask=REAL.long(), token_type_ids=types)
    expected = theirs(ids, **asked)
    h_BTD = ours(ids, mask_BTS=padding_mask(LENGTHS, 11), types_BT=types)
    torch.testing.assert_close(ours.logits(h_BTD)[REAL], expected.prediction_logits[REAL], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.pair_logits(h_BTD), expected.seq_relationship_logits, atol=1e-4, rtol=1e-4)
    save_model(ours, None, tmp_path / "saved")
    again = transformers.BertForPreTraining.from_pretrained(tmp_path / "saved")(ids, **asked)
    torch.testing.assert_close(again.seq_relationship_logits, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
@torch.no_grad()
def test_a_new_head_on_a_trained_encoder(kind, both):
    ours, _ = both(f"{kind.__name__.removesuffix('Config')}ForMaskedLM", kind(**SHAPE))
    ids, _ = inputs()
    expected = ours(ids)
    labelled = with_head(ours, "sequence", ("no", "yes", "maybe")).eval()
    torch.testing.assert_close(labelled(ids), expected)
    assert labelled.label_logits(expected).shape == (2, 3)
    torch.testing.assert_close(with_head(labelled, "none").eval()(ids), expected)


@pytest.mark.parametrize("name", ["BertForQuestionAnswering", "BertLMHeadModel"])
def test_a_head_we_lack_is_named(name, both):
    from cutaway.core.errors import CheckpointError

    with pytest.raises(CheckpointError, match=name):
        both(name, BertConfig(**SHAPE))


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
