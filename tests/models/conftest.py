"""A small Llama as a folder and as a GGUF file, both written from the same weights."""

import gguf
import numpy as np
import pytest
import torch

from cutaway.models.huggingface import save_model
from cutaway.models.llama import Llama, LlamaConfig

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    shape = dict(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    return Llama(LlamaConfig(**shape, num_key_value_heads=2, tie_word_embeddings=False)).eval()


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, None, tmp_path / "folder")
    return tmp_path / "folder"


@pytest.fixture
def gguf_file(model, tmp_path):
    """As llama.cpp's converter writes it: its names, and the rows of q and k in interleaved order."""
    path, c = tmp_path / "small.gguf", model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        stem = name.removesuffix(".weight")
        heads = {"q_proj": 4, "k_proj": 2}.get(stem.split(".")[-1])
        if heads:
            values = values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            stored = f"blk.{layer}.{NAMES[part]}.weight"
        else:
            stored = f"{NAMES[stem]}.weight"
        writer.add_tensor(stored, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
