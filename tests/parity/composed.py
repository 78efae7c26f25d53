"""The composed decoder where its choices are those of a published one: Llama's and Mixtral's, against transformers.

What defines each other choice is in tests/models/test_composed.py.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from cutaway.models.families import make_model
from tests.parity import decoders
from tests.parity.sides import randomise

SMALL = dict(vocab_size=97, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=6)
SMALL |= dict(num_key_value_heads=6, max_position_embeddings=64)
CASES = {
    "the default, a Llama": {},
    "GQA": dict(num_key_value_heads=2),
    "MQA, a head of its own": dict(num_key_value_heads=1, head="full"),
    "experts, a Mixtral": dict(num_experts=5),
    "experts, one per token": dict(num_experts=4, num_experts_per_tok=1, head="full"),
}
NAMES = {
    "embed_tokens": "model.embed_tokens",
    "layers": "model.layers",
    "norm": "model.norm",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention": "self_attn",
    "gate_proj": "w1",
    "up_proj": "w3",
    "down_proj": "w2",
}


def make(over: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """Ours, and the same weights as a checkpoint of the published family, read by transformers."""
    ours = make_model({**SMALL, "model_type": "composed", **over}).eval()
    randomise(ours)
    c = ours.config
    values = {name: getattr(c, name) for name in SMALL} | dict(rms_norm_eps=1e-6, tie_word_embeddings=c.head == "tied")
    if c.num_experts:
        kind = dict(
            model_type="mixtral",
            rope_theta=10_000.0,
            num_local_experts=c.num_experts,
            num_experts_per_tok=c.num_experts_per_tok,
        )
        names = {**NAMES, "feed_forward": "block_sparse_moe"}
    else:
        kind = dict(model_type="llama")
        names = {**NAMES, "feed_forward": "mlp"} | {part: part for part in ("gate_proj", "up_proj", "down_proj")}
    folder = folder / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**values, **kind, "sliding_window": None}))
    state = {".".join(names.get(part, part) for part in name.split(".")): w for name, w in ours.named_parameters()}
    save_file(
        {name: w.detach().contiguous() for name, w in state.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return ours, AutoModelForCausalLM.from_pretrained(folder).eval()


KIND = replace(decoders.KIND, cases=CASES, make=make, read=None)
