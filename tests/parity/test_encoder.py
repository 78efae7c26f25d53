"""What BERT and RoBERTa keep beside their scores: names of labels, an encoder under a new head."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertConfig

from cutaway.core.errors import CheckpointError
from cutaway.models.bert_heads import with_head
from cutaway.models.huggingface import load_model, save_model
from tests.parity.encoders import SHAPE, architecture, inputs, ours


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "RobertaForTokenClassification"])
def test_names_of_labels_are_kept(name, both, tmp_path):
    model, _ = both(*architecture(name, id2label={0: "a", 1: "b", 2: "c"}))
    save_model(model, None, tmp_path / "saved")
    assert list(AutoConfig.from_pretrained(tmp_path / "saved").id2label.values()) == ["a", "b", "c"]


@torch.no_grad()
def test_the_names_of_berts_own_release(both, tmp_path):
    """There norms have a gamma and a beta, and the head for pairs is in the file, though the configuration says masked."""
    pretraining, theirs = both(*architecture("BertForPreTraining"))
    theirs.save_pretrained(tmp_path)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in load_file(file).items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in tensors
    assert "cls.seq_relationship.weight" in tensors
    save_file(tensors, file, metadata={"format": "pt"})
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["BertForMaskedLM"]}))
    masked, given = load_model(tmp_path, torch.float32, torch.device("cpu")), inputs(theirs)
    assert torch.equal(ours(masked, given)["logits"], ours(pretraining, given)["logits"])


@pytest.mark.parametrize("name", ["Bert", "Roberta"])
@torch.no_grad()
def test_a_new_head_on_a_trained_encoder(name, both):
    model, theirs = both(*architecture(f"{name}ForMaskedLM"))
    ids = inputs(theirs).ids
    expected = model(ids)
    labelled = with_head(model, "sequence", ("no", "yes", "maybe")).eval()
    torch.testing.assert_close(labelled(ids), expected)
    assert labelled.label_logits(expected).shape == (2, 3)
    torch.testing.assert_close(with_head(labelled, "none").eval()(ids), expected)


@pytest.mark.parametrize("name", ["BertForQuestionAnswering", "BertLMHeadModel"])
def test_a_head_we_lack_is_named(name, both):
    with pytest.raises(CheckpointError, match=name):
        both(name, BertConfig(**SHAPE))
