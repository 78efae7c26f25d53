"""Write a model of the Llama family as a GGUF file, in the blocks that its weights are in; `gguf` reads it, and llama.cpp does.

What `gguf` does in reading is undone: names are llama.cpp's, and the rows of q and k of the family `llama` stand in the order of
its interleaved rotary pairs.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from torch import Tensor, nn

from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.core.files import new_file
from cutaway.models.gguf import NAMES, ROPE_FACTORS, config_from_gguf
from cutaway.models.gguf_file import open_gguf
from cutaway.models.llama import Llama
from cutaway.models.llama_config import LlamaConfig
from cutaway.nn.rope import RopeScaling, rope_frequencies
from cutaway.quant.tensor import QuantTensor
from cutaway.text.gguf_out import gguf_from_tokenizer
from cutaway.text.tokenizer import Tokenizer

_PARTS = {ours: theirs for theirs, ours in NAMES.items()}
_NOT_STORED = {"model_type", "initializer_range", "attention"}  # nothing that a trained model computes with
_FILE_TYPES = {"Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}


def write_gguf(model: nn.Module, tokenizer: Tokenizer, path: Path, name: str) -> None:
    """Write a file, whole or not at all.

    Args:
        model: its quantised weights are stored in their blocks, the others in float32.
        name: what the file calls the model.

    Raises:
        ConfigError: the model is of another family.
        CheckpointError: it has something that such files cannot hold.
        TokenizerError: the tokeniser has.
    """
    model = check_gguf(model)
    config = model.config
    architecture = "llama" if config.model_type == "mistral" else config.model_type
    metadata = {
        "general.name": name,
        "general.file_type": _file_type(model),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **{f"{architecture}.{key}": value for key, value in _shape(config).items()},
        **gguf_from_tokenizer(tokenizer, config.vocab_size),
    }
    with new_file(path) as temporary:
        _write(model, architecture, metadata, temporary)
        _check(temporary, config, str(path))


def check_gguf(model: nn.Module) -> Llama:
    """The model, if it is one that can be written.

    Raises:
        ConfigError: it is of another family.
    """
    if type(model) is not Llama:
        kind: Any = getattr(model, "config", None)
        raise ConfigError("only the Llama family is written as GGUF", field="model", value=kind and kind.model_type)
    return model


def _shape(c: LlamaConfig) -> dict[str, Any]:
    scaling: dict[str, Any] = {}
    if c.rope_scaling.rope_type in ("linear", "yarn"):
        scaling = {"rope.scaling.type": c.rope_scaling.rope_type, "rope.scaling.factor": c.rope_scaling.factor}
    if c.rope_scaling.original_max_position_embeddings:
        scaling["rope.scaling.original_context_length"] = c.rope_scaling.original_max_position_embeddings
    return {
        "block_count": c.num_hidden_layers,
        "context_length": c.max_position_embeddings,
        "embedding_length": c.hidden_size,
        "feed_forward_length": c.intermediate_size,
        "attention.head_count": c.num_attention_heads,
        "attention.head_count_kv": c.num_key_value_heads,
        "attention.key_length": c.head_dim,
        "attention.value_length": c.head_dim,
        "attention.layer_norm_rms_epsilon": c.rms_norm_eps,
        "rope.dimension_count": c.head_dim,
        "rope.freq_base": c.rope_theta,
        "vocab_size": c.vocab_size,
        **scaling,
    }


def _write(model: Llama, architecture: str, metadata: dict[str, Any], path: Path) -> None:
    logging.getLogger("gguf").setLevel(logging.WARNING)
    writer = GGUFWriter(path, architecture)
    add: dict[type, Any] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
    }
    for key, value in metadata.items():
        add.get(type(value), writer.add_array)(key, value)
    tensors = {_name(name): parameter.detach() for name, parameter in model.named_parameters()}
    if model.config.rope_scaling.rope_type == "llama3":
        tensors[ROPE_FACTORS] = _rope_factors(model.config)
    for name, tensor in tensors.items():
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), _stored_bytes(tensor), _kind(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors.items():
        rows = tensor.format.rows(tensor.tiles, len(tensor)) if isinstance(tensor, QuantTensor) else tensor.float()
        writer.write_tensor_data(_interleaved(name, rows, model.config).contiguous().numpy())
    writer.close()


def _kind(tensor: Tensor) -> GGMLQuantizationType:
    return GGMLQuantizationType[tensor.format.name if isinstance(tensor, QuantTensor) else "F32"]


def _stored_bytes(tensor: Tensor) -> int:
    if not isinstance(tensor, QuantTensor):
        return 4 * tensor.numel()
    return tensor.numel() // tensor.format.columns * tensor.format.stored


def _file_type(model: nn.Module) -> int:
    """The format of most weights, as llama.cpp numbers them."""
    weights: Counter[str] = Counter()
    for parameter in model.parameters():
        weights[_kind(parameter.data).name] += parameter.numel()
    name = weights.most_common(1)[0][0]
    return int(LlamaFileType["ALL_F32" if name == "F32" else "MOSTLY_" + _FILE_TYPES.get(name, name)])


def _name(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{_PARTS.get(part, part)}.{ending}"
    return f"{_PARTS.get(stem, stem)}.{ending}"


def _interleaved(name: str, rows: Tensor, config: LlamaConfig) -> Tensor:
    """The way back from what `gguf` does to the rows of q and k."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None or config.model_type not in ("llama", "mistral"):
        return rows
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _rope_factors(config: LlamaConfig) -> Tensor:
    ours, plain = (
        rope_frequencies(config.head_dim, config.rope_theta, scaling, config.max_position_embeddings)[0]
        for scaling in (config.rope_scaling, RopeScaling())
    )
    return plain / ours


def _check(written: Path, config: LlamaConfig, path: str) -> None:
    """What a reader makes of the file is the model."""
    read = config_from_gguf(open_gguf(written), path).model_dump(exclude=_NOT_STORED)
    for field, value in config.model_dump(exclude=_NOT_STORED).items():
        if read[field] != value:
            raise CheckpointError("a GGUF file cannot hold this", field=field, value=value)
