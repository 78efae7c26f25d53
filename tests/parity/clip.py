"""CLIP's embeddings and scores against transformers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig

from tests.parity.sides import Kind, Outputs, read_again, same_weights

EOS = 88
TEXT = dict(
    vocab_size=89,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=11,
    bos_token_id=1,
    eos_token_id=EOS,
    pad_token_id=0,
)
VISION = dict(
    image_size=12,
    patch_size=4,
    hidden_size=30,
    num_hidden_layers=3,
    num_attention_heads=5,
    intermediate_size=34,
)


def clip(text: Any = (), vision: Any = ()) -> tuple[str, CLIPConfig]:
    towers = dict(text_config={**TEXT, **dict(text)}, vision_config={**VISION, **dict(vision)})
    return "CLIPModel", CLIPConfig(**towers, projection_dim=14)


CASES = {
    "plain": clip(),
    "gelu": clip(dict(hidden_act="gelu"), dict(hidden_act="gelu")),
    "gelu in the image tower only": clip(vision=dict(hidden_act="gelu", layer_norm_eps=1e-3)),
    "one head, one channel, pixels left over": clip(
        dict(num_attention_heads=1), dict(num_attention_heads=1, num_channels=1, image_size=15)
    ),
    "end token by the old rule": clip(dict(eos_token_id=2)),
    "padded with the end token": clip(dict(pad_token_id=EOS)),
}


@dataclass(frozen=True)
class Inputs:
    pixels: Tensor
    ids: Tensor
    real: Tensor


def inputs(theirs: Any) -> Inputs:
    text, vision = theirs.config.text_config, theirs.config.vision_config
    pixels = torch.randn(3, vision.num_channels, vision.image_size, vision.image_size)
    lengths = torch.tensor([9, 4, 6, 7])
    ids = torch.randint(3, EOS, (4, 9))
    real = torch.arange(9) < lengths[:, None]
    ids[~real] = text.pad_token_id
    ids[torch.arange(4), lengths - 1] = EOS
    return Inputs(pixels, ids, real)


def ours(model: Any, given: Inputs) -> Outputs:
    texts, images = model.encode_text(given.ids, given.real), model.encode_image(given.pixels)
    states = model.text_model(given.ids, given.real)[given.real]
    return {"logits": model.logits(images, texts), "texts": texts, "images": images, "hidden states": states}


def theirs(model: Any, given: Inputs) -> Outputs:
    found = model(input_ids=given.ids, pixel_values=given.pixels, attention_mask=given.real.long())
    states = model.text_model(given.ids, attention_mask=given.real.long()).last_hidden_state[given.real]
    outputs = {"logits": found.logits_per_image, "texts": found.text_embeds, "images": found.image_embeds}
    return {**outputs, "hidden states": states}


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again)
