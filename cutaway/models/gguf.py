"""GGUF files of the Llama family: weights, tokeniser and chat template in one file.

Quantised tensors stay in their blocks where that is asked for and their products are known (`quant`); else they are dequantised
one at a time, straight into the number format asked for. llama.cpp stores the rows of q and k in the order of its interleaved
rotary pairs; `_half_split` puts them back into the order of Hugging Face checkpoints.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.config import make_config
from cutaway.core.errors import CheckpointError, ConfigError, near_matches
from cutaway.models import llama
from cutaway.models.gguf_file import GGUFFile, GGUFTensor
from cutaway.models.huggingface import fill
from cutaway.models.llama_config import LlamaConfig
from cutaway.nn.rope import RopeScaling, rope_frequencies
from cutaway.quant.formats import FORMATS
from cutaway.quant.tensor import QuantTensor

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROPE_FACTORS = "rope_freqs.weight"
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def config_from_gguf(file: GGUFFile, source: str) -> LlamaConfig:
    """The shape of the model in a file."""
    values, tensors = file.metadata, file.shapes
    kind = values.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            "unsupported", field="general.architecture", value=kind, hint=near_matches(str(kind), ARCHITECTURES)
        )

    def get(name: str, default: Any = None) -> Any:
        value = values.get(f"{kind}.{name}", default)
        if value is None:
            raise CheckpointError(f"the metadata lacks {kind}.{name}", field="model", value=source)
        return value

    heads, width = get("attention.head_count"), get("embedding_length")
    if "token_embd.weight" not in tensors:
        raise CheckpointError("the file lacks token_embd.weight", field="model", value=source)
    return _checked(
        source,
        {
            "model_type": kind,
            "vocab_size": tensors["token_embd.weight"][0],
            "hidden_size": width,
            "intermediate_size": get("feed_forward_length"),
            "num_hidden_layers": get("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": get("attention.head_count_kv", heads),
            "head_dim": get("attention.key_length", 0),
            "max_position_embeddings": get("context_length"),
            # Stored as float32; the shortest decimal that rounds to it is what the author wrote.
            "rms_norm_eps": float(f"{get('attention.layer_norm_rms_epsilon'):.7g}"),
            "rope_theta": float(f"{get('rope.freq_base', 10_000.0):.7g}"),
            "rope_scaling": _scaling(get, _rope_factors(file)),
            "attention_bias": "blk.0.attn_q.bias" in tensors,
            "attention_output_bias": "blk.0.attn_output.bias" in tensors,
            "tie_word_embeddings": "output.weight" not in tensors,
        },
    )


def _checked(source: str, shape: dict[str, Any]) -> LlamaConfig:
    try:
        return make_config(LlamaConfig, shape)
    except ConfigError as err:
        raise CheckpointError(f"its metadata make no model: {err}", field="model", value=source) from None


def load_gguf(file: GGUFFile, dtype: torch.dtype | None, device: torch.device, source: str) -> nn.Module:
    """The model of an open file on `device`, in `dtype`; None: in its own blocks, and what has no products there in float32."""
    config = config_from_gguf(file, source)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for tensor in file.tensors:
            if tensor.name != ROPE_FACTORS:
                yield _rename(tensor.name), _values(tensor, config, stored=dtype is None)

    model = fill(llama.build, config, tensors(), dtype or torch.float32, device, source)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and not isinstance(parameter.data, QuantTensor))
    _check_rope(file, config, source)
    return model


def _values(tensor: GGUFTensor, config: LlamaConfig, stored: bool) -> Tensor:
    format = FORMATS.get(tensor.kind.name) if stored and len(tensor.shape) == 2 else None
    if format is None:
        return _half_split(tensor.name, torch.from_numpy(tensor.dequantised()), config)
    return QuantTensor.read(_half_split(tensor.name, torch.from_numpy(tensor.blocks()), config), format)


def _rename(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{NAMES.get(part, part)}.{ending}"
    return f"{NAMES.get(stem, stem)}.{ending}"


def _half_split(name: str, tensor: Tensor, config: LlamaConfig) -> Tensor:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None or config.model_type != "llama" or len(tensor) % (2 * heads):  # `fill` names what is misshapen
        return tensor
    return tensor.view(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _scaling(get: Any, factors: Tensor | None) -> dict[str, Any]:
    """llama.cpp writes linear and yarn scaling by name, and Llama 3's as a tensor of divisors."""
    kind = get("rope.scaling.type", "none")
    if factors is not None:
        # The slowest pairs are divided by the whole factor; the rest of the settings all published Llama 3.x models share, and
        # `_check_rope` compares what comes of them.
        return {
            "rope_type": "llama3",
            "factor": float(f"{factors.max():.7g}"),
            "original_max_position_embeddings": get("rope.scaling.original_context_length", 8192),
        }
    if kind == "none":
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": get("rope.scaling.factor")}
    if kind == "yarn":
        original = get("rope.scaling.original_context_length")
        return {"rope_type": "yarn", "factor": get("rope.scaling.factor"), "original_max_position_embeddings": original}
    raise CheckpointError("unsupported", field="rope.scaling.type", value=kind, hint="known: none, linear, yarn")


def _check_rope(file: GGUFFile, config: LlamaConfig, source: str) -> None:
    """The divisors in the file must be those that our configuration gives."""
    stored = _rope_factors(file)
    if stored is None:
        return
    ours, _ = rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling, config.max_position_embeddings)
    plain, _ = rope_frequencies(config.head_dim, config.rope_theta, RopeScaling(), config.max_position_embeddings)
    if stored.shape != ours.shape or not torch.allclose(plain / ours, stored, rtol=1e-3):
        raise CheckpointError("its rotary factors are not those of a known scaling", field="rope_freqs", value=source)


def _rope_factors(file: GGUFFile) -> Tensor | None:
    found = next((tensor for tensor in file.tensors if tensor.name == ROPE_FACTORS), None)
    return None if found is None or not found.data.size else torch.from_numpy(found.dequantised())
