"""BERT and RoBERTa, without a head and with each, against transformers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, RobertaConfig

from cutaway.nn.masks import padding_mask
from tests.parity.sides import Kind, Outputs, read_again, same_weights

SHAPE = dict(vocab_size=89, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50)
SHAPE |= dict(max_position_embeddings=20)
ODD = {"num_attention_heads": 1, "type_vocab_size": 3, "layer_norm_eps": 1e-5, "id2label": {0: "a", 1: "b", 2: "c"}}
UNTIED = {**ODD, "tie_word_embeddings": False}
HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
LENGTHS = torch.tensor([11, 6])
REAL = torch.arange(11) < LENGTHS[:, None]


def architecture(name: str, **over: Any) -> tuple[str, Any]:
    config = BertConfig if name.startswith("Bert") else RobertaConfig
    return name, config(**{**SHAPE, **over})


CASES = {
    f"{name.lower()}, {label}": architecture(f"{name}{head}", **over)
    for name in ("Bert", "Roberta")
    for head, label, over in (
        ("Model", "no head", {}),
        ("Model", "no head, odd", ODD),
        *((head, head, {}) for head in HEADS),
        *((head, f"{head}, odd, untied", UNTIED) for head in HEADS),
    )
} | {"bert, ForPreTraining": architecture("BertForPreTraining")}


@dataclass(frozen=True)
class Inputs:
    ids: Tensor
    types: Tensor


def inputs(theirs: Any) -> Inputs:
    ids, types = torch.randint(3, 89, (2, 11)), torch.randint(2, (2, 11))
    return Inputs(ids.where(REAL, theirs.config.pad_token_id), types)


def ours(model: Any, given: Inputs) -> Outputs:
    h_BTD = model(given.ids, mask_BTS=padding_mask(LENGTHS, 11), types_BT=given.types)
    match model.config.head:
        case "none":
            return {"hidden states": h_BTD[REAL]}
        case "masked":
            return {"logits": model.logits(h_BTD)[REAL]}
        case "pretraining":
            return {"logits": model.logits(h_BTD)[REAL], "logits of the pair": model.pair_logits(h_BTD)}
        case "sequence":
            return {"logits": model.label_logits(h_BTD)}
    return {"logits": model.label_logits(h_BTD)[REAL]}


def theirs(model: Any, given: Inputs) -> Outputs:
    found = model(given.ids, attention_mask=REAL.long(), token_type_ids=given.types)
    if "last_hidden_state" in found:
        return {"hidden states": found.last_hidden_state[REAL]}
    if "prediction_logits" in found:
        return {"logits": found.prediction_logits[REAL], "logits of the pair": found.seq_relationship_logits}
    return {"logits": found.logits[REAL] if found.logits.dim() == 3 else found.logits}


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again)
