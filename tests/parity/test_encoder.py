"""What BERT and RoBERTa keep beside their scores: names of labels, an encoder under a new head."""

import pytest
import torch
from transformers import AutoConfig, BertConfig

from cutaway.core.errors import CheckpointError
from cutaway.models.bert_heads import with_head
from cutaway.models.huggingface import save_model
from tests.parity.encoders import SHAPE, architecture, inputs


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "RobertaForTokenClassification"])
def test_names_of_labels_are_kept(name, both, tmp_path):
    ours, _ = both(*architecture(name, id2label={0: "a", 1: "b", 2: "c"}))
    save_model(ours, None, tmp_path / "saved")
    assert list(AutoConfig.from_pretrained(tmp_path / "saved").id2label.values()) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["Bert", "Roberta"])
@torch.no_grad()
def test_a_new_head_on_a_trained_encoder(name, both):
    ours, theirs = both(*architecture(f"{name}ForMaskedLM"))
    ids = inputs(theirs).ids
    expected = ours(ids)
    labelled = with_head(ours, "sequence", ("no", "yes", "maybe")).eval()
    torch.testing.assert_close(labelled(ids), expected)
    assert labelled.label_logits(expected).shape == (2, 3)
    torch.testing.assert_close(with_head(labelled, "none").eval()(ids), expected)


@pytest.mark.parametrize("name", ["BertForQuestionAnswering", "BertLMHeadModel"])
def test_a_head_we_lack_is_named(name, both):
    with pytest.raises(CheckpointError, match=name):
        both(name, BertConfig(**SHAPE))
