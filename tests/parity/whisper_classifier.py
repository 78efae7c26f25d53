"""Whisper's encoder with a head for labels, against transformers."""

from typing import Any

from torch import Tensor

from tests.parity.sides import Kind, Outputs, read_again, same_weights
from tests.parity.whisper import inputs as sounds
from tests.parity.whisper import whisper


def classifier(**over: Any) -> tuple[str, Any]:
    return "WhisperForAudioClassification", whisper(**{"classifier_proj_size": 9, **over})[1]


CASES = {
    "2 classes": classifier(),
    "5 classes, unlike widths": classifier(num_labels=5, classifier_proj_size=31, encoder_layers=1),
}


def inputs(theirs: Any) -> Tensor:
    return sounds(theirs).mel


def ours(model: Any, mel: Tensor) -> Outputs:
    h = model(mel)
    return {"hidden states": h, "logits": model.label_logits(h)}


def theirs(model: Any, mel: Tensor) -> Outputs:
    return {"hidden states": model.encoder(mel).last_hidden_state, "logits": model(mel).logits}


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again)
