"""T5 1.0 and 1.1 against transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config

from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from tests.parity.sides import Kind, Outputs, Texts, padded, read_again, same_weights, up_to_end

V = 61


def shape(**over: Any) -> T5Config:
    small = dict(vocab_size=V, d_model=40, d_kv=8, d_ff=52, num_layers=2, num_heads=3, decoder_start_token_id=0)
    return T5Config(**{**small, "dropout_rate": 0.0, **over})


V11 = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
CASES = {
    "1.0": shape(),
    "1.1": shape(**V11),
    "one head, one layer": shape(num_heads=1, num_layers=1, d_kv=5),
    "a deeper decoder": shape(num_decoder_layers=3, **V11),
    "few buckets": shape(relative_attention_num_buckets=6, relative_attention_max_distance=9, layer_norm_epsilon=1e-3),
    "start and end of its own": shape(decoder_start_token_id=7, eos_token_id=18, **V11),
}


@dataclass(frozen=True)
class Inputs:
    source: Tensor
    real: Tensor
    target: Tensor


def make(config: T5Config, folder: Path) -> tuple[Any, Any]:
    return same_weights(("T5ForConditionalGeneration", config), folder, own_head)


def own_head(theirs: Any) -> None:
    """A head of its own is what published 1.1 checkpoints have; newer transformers begin by tying it."""
    if not theirs.config.scale_decoder_outputs:
        theirs.lm_head.weight = nn.Parameter(torch.empty(V, theirs.config.d_model))


def inputs(theirs: Any) -> Inputs:
    return Inputs(*padded([23, 9, 17, 1], 2, V), torch.randint(2, V, (4, 15)))


def ours(model: Any, given: Inputs) -> Outputs:
    memory = model.encode(given.source, mask_BS=given.real)
    logits = model.logits(model(given.target, memory, memory_mask_BS=given.real))
    return {"memory": memory[given.real], "logits": logits}


def theirs(model: Any, given: Inputs) -> Outputs:
    found = model(given.source, attention_mask=given.real.long(), decoder_input_ids=given.target)
    return {"memory": found.encoder_last_hidden_state[given.real], "logits": found.logits}


def write(ours: Any, theirs: Any, given: Inputs) -> tuple[Texts, Texts]:
    c = ours.config
    sources = [row[keep].tolist() for row, keep in zip(given.source, given.real, strict=True)]
    found = translate(ours, sources, Beam(width=1), {c.eos_token_id}, c.decoder_start_token_id, 20)
    asked = dict(max_new_tokens=20, do_sample=False, use_cache=False)  # its cache fails where the decoder is deeper
    expected = theirs.generate(given.source, attention_mask=given.real.long(), **asked)
    return [row[0].ids for row in found], [up_to_end(row[1:].tolist(), c.eos_token_id) for row in expected]


KIND = Kind("transformers", CASES, make, inputs, ours, theirs, read_again, write)
