"""ViT, without a head and with one for classes, against transformers."""

from typing import Any

import torch
from torch import Tensor
from transformers import ViTConfig

from tests.parity.sides import Kind, Outputs, read_again, same_weights

SHAPE = dict(
    image_size=12,
    patch_size=4,
    num_channels=3,
    hidden_size=36,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=50,
)
ODD = {
    "plain": {},
    "one head, one channel": dict(num_attention_heads=1, num_channels=1),
    "no biases": dict(qkv_bias=False),
    "relu, eps": dict(hidden_act="relu", layer_norm_eps=1e-3),
    "left-over pixels": dict(image_size=15),
    "oblong": dict(image_size=(8, 20), patch_size=(4, 5)),
}
CASES = {case: ("ViTModel", ViTConfig(**{**SHAPE, **over})) for case, over in ODD.items()} | {
    f"{labels} classes": ("ViTForImageClassification", ViTConfig(**SHAPE, num_labels=labels)) for labels in (2, 5)
}


def inputs(theirs: Any) -> Tensor:
    return pixels(theirs.config)


def pixels(config: Any) -> Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, config.num_channels, height, width)


def ours(model: Any, images: Tensor) -> Outputs:
    h = model(images)
    return {"logits": model.label_logits(h)} if hasattr(model, "classifier") else {"hidden states": h}


def theirs(model: Any, images: Tensor) -> Outputs:
    found = model(images)
    return {"logits": found.logits} if "logits" in found else {"hidden states": found.last_hidden_state}


KIND = Kind("transformers", CASES, same_weights, inputs, ours, theirs, read_again)
