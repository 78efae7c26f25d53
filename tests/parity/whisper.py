"""Whisper against transformers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, WhisperConfig

from cutaway.decode.beam import Beam
from cutaway.infer.translate import write as write_targets
from tests.parity.sides import Kind, Outputs, Texts, read_again, same_weights, up_to_end

SHAPE = dict(
    vocab_size=61,
    num_mel_bins=7,
    d_model=24,
    encoder_layers=2,
    encoder_attention_heads=3,
    encoder_ffn_dim=30,
    decoder_layers=2,
    decoder_attention_heads=3,
    decoder_ffn_dim=34,
    max_source_positions=19,
    max_target_positions=31,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=3,
)


def whisper(**over: Any) -> tuple[str, WhisperConfig]:
    config = WhisperConfig(**{**SHAPE, **over}, suppress_tokens=None, begin_suppress_tokens=None)
    return "WhisperForConditionalGeneration", config


CASES = {
    "plain": whisper(),
    "unlike stacks": whisper(encoder_layers=1, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=6),
    "one head, relu": whisper(encoder_attention_heads=1, decoder_attention_heads=1, activation_function="relu"),
    "untied": whisper(tie_word_embeddings=False),
}


@dataclass(frozen=True)
class Inputs:
    mel: Tensor
    target: Tensor


def inputs(theirs: Any) -> Inputs:
    return Inputs(torch.randn(4, 7, 38), torch.randint(61, (4, 13)))


def ours(model: Any, given: Inputs) -> Outputs:
    memory = model.encode(given.mel)
    return {"memory": memory, "logits": model.logits(model(given.target, memory))}


def theirs(model: Any, given: Inputs) -> Outputs:
    found = model(input_features=given.mel, decoder_input_ids=given.target)
    return {"memory": found.encoder_last_hidden_state, "logits": found.logits}


def write(ours: Any, theirs: Any, given: Inputs, end: int = 2) -> tuple[Texts, Texts]:
    return transcribed(ours, given.mel, end), [
        up_to_end(row[1:].tolist(), end) for row in generated(theirs, given.mel, end)
    ]


def transcribed(model: Any, mel: Tensor, end: int) -> Texts:
    found = write_targets(model, model.encode(mel), None, Beam(width=1), {end}, [3], 25)
    return [row[0].ids for row in found]


def generated(theirs: Any, mel: Tensor, end: int) -> Tensor:
    """What transformers generates, without Whisper's own loop, which is for sounds of more than 30 seconds."""
    return GenerationMixin.generate(theirs, mel, max_new_tokens=25, do_sample=False, eos_token_id=end)


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again, write)
