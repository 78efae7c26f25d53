"""A ViT with a GPT-2 that writes of what it sees, against transformers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, VisionEncoderDecoderConfig, ViTConfig

from cutaway.decode.beam import Beam
from cutaway.infer.translate import write as write_targets
from tests.parity import vit
from tests.parity.sides import Kind, Outputs, Texts, read_again, same_weights, up_to_end

START, END, V = 3, 2, 61
WRITER = dict(vocab_size=V, n_positions=29, n_embd=36, n_layer=2, n_head=3, bos_token_id=START, eos_token_id=END)


def captioner(encoder: Any = (), decoder: Any = ()) -> tuple[str, VisionEncoderDecoderConfig]:
    halves = ViTConfig(**{**vit.SHAPE, **dict(encoder)}), GPT2Config(**{**WRITER, **dict(decoder)})
    ids = dict(decoder_start_token_id=START, eos_token_id=END, pad_token_id=0)
    return "VisionEncoderDecoderModel", VisionEncoderDecoderConfig.from_encoder_decoder_configs(*halves, **ids)


CASES = {
    "plain": captioner(),
    "unlike widths": captioner(dict(hidden_size=20, num_attention_heads=2), dict(n_layer=3, n_head=6)),
    "untied, own feed-forward width": captioner(decoder=dict(tie_word_embeddings=False, n_inner=50)),
    "one head, one channel, oblong, pixels left over": captioner(
        dict(num_attention_heads=1, num_channels=1, image_size=(9, 14), patch_size=(4, 5)), dict(n_head=1)
    ),
}


@dataclass(frozen=True)
class Inputs:
    pixels: Tensor
    target: Tensor


def inputs(theirs: Any) -> Inputs:
    pixels = torch.cat([vit.pixels(theirs.config.encoder) for _ in range(2)])
    return Inputs(3 * pixels, torch.randint(V, (4, 13)))


def ours(model: Any, given: Inputs) -> Outputs:
    memory = model.encode(given.pixels)
    return {"logits": model.logits(model(given.target, memory))}


def theirs(model: Any, given: Inputs) -> Outputs:
    return {"logits": model(pixel_values=given.pixels, decoder_input_ids=given.target).logits}


def write(ours: Any, theirs: Any, given: Inputs) -> tuple[Texts, Texts]:
    found = write_targets(ours, ours.encode(given.pixels), None, Beam(width=1), {END}, [START], 25)
    rows = theirs.generate(given.pixels, max_new_tokens=25, do_sample=False)
    return [row[0].ids for row in found], [up_to_end(row[1:].tolist(), END) for row in rows]


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again, write)
