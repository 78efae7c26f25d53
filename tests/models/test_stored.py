"""Quantised weights that stay in their blocks."""

import pytest
import torch

from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.gguf import load_gguf
from cutaway.models.gguf_file import GGUFTensor, open_gguf
from cutaway.models.load import find, load
from cutaway.quant.tensor import QuantTensor

CPU = torch.device("cpu")


def test_the_packaged_model_keeps_the_numbers_of_its_file():
    path = find("smollm2-135m-instruct")
    stored, whole = (load_gguf(open_gguf(path), dtype, CPU, str(path)) for dtype in (None, torch.float32))
    weights = dict(stored.named_parameters())
    quantised = {name: weight for name, weight in weights.items() if isinstance(weight, QuantTensor)}
    assert len(quantised) == 211
    assert sum(weight.tiles.nbytes for weight in quantised.values()) < path.stat().st_size
    assert not any(weight.requires_grad for weight in quantised.values())
    assert stored.lm_head.weight is stored.embedding.weight
    for name, weight in whole.named_parameters():
        found = weights[name]
        assert torch.equal(found.dequantised() if name in quantised else found, weight), name


def test_scales_that_are_not_numbers_are_named(monkeypatch):
    path = find("smollm2-135m-instruct")
    honest = GGUFTensor.blocks

    def damaged(tensor):
        blocks = honest(tensor)
        if tensor.name == "blk.7.ffn_up.weight":
            blocks[100, 1] = 0x7C  # the scale's high byte
            blocks[100, 0] = 0
        return blocks

    monkeypatch.setattr(GGUFTensor, "blocks", damaged)
    with pytest.raises(CheckpointError, match=r"not finite: model.layers.7.mlp.up_proj.weight"):
        load_gguf(open_gguf(path), None, CPU, str(path))


def test_a_folder_has_no_blocks(folder):
    with pytest.raises(ConfigError, match=r"dtype.*stored"):
        load(folder, dtype="stored")
