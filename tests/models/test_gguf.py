"""GGUF files written here with known weights, whole and broken."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from cutaway.core.errors import CheckpointError
from cutaway.models.gguf import load_gguf
from cutaway.models.gguf_file import open_gguf
from cutaway.models.load import find

CPU = torch.device("cpu")


def read(path, dtype=torch.float32):
    return load_gguf(open_gguf(path), dtype, CPU, str(path))


def test_weights_come_back_in_our_order(model, gguf_file):
    again = read(gguf_file)
    assert again.config == model.config
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    assert {parameter.dtype for parameter in read(gguf_file, torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_truncated(gguf_file, keep):
    whole = gguf_file.read_bytes()
    gguf_file.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(CheckpointError, match=r"small\.gguf.*(not a whole GGUF|lacks)"):
        read(gguf_file)


def test_damaged_header_is_never_a_bare_traceback(gguf_file):
    """Any byte of the header may be wrong: it loads, or it is a CheckpointError."""
    whole = gguf_file.read_bytes()
    header = open_gguf(gguf_file).data_offset
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for at in torch.randint(header, (60,), generator=generator).tolist():
        gguf_file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            read(gguf_file)
        except CheckpointError:
            refused += 1
    assert refused > 30


def test_not_finite_weights_are_named(model, gguf_file):
    whole, weight = gguf_file.read_bytes(), model.model.norm.weight.detach().numpy().tobytes()
    assert whole.count(weight) == 5, "every norm starts as ones"
    at = whole.rindex(weight)
    gguf_file.write_bytes(whole[:at] + b"\x00\x00\xc0\x7f" + whole[at + 4 :])
    with pytest.raises(CheckpointError, match=r"not finite: .*norm.weight"):
        read(gguf_file)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": gguf.GGMLQuantizationType.I64}, r"blk\.1\.attn_q\.weight='I64': unsupported number format"),
        ({"data": np.zeros((30, 32), np.float32)}, r"misshapen: .*q_proj\.weight \[30, 32\] instead of \[32, 32\]"),
    ],
)
def test_tensors_that_cannot_be_are_named(gguf_file, changed, message):
    file = open_gguf(gguf_file)
    tensors = [replace(one, **changed) if one.name == "blk.1.attn_q.weight" else one for one in file.tensors]
    with pytest.raises(CheckpointError, match=message):
        load_gguf(replace(file, tensors=tuple(tensors)), torch.float32, CPU, "small.gguf")


def test_other_architectures_are_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"general.architecture='mamba'.*did you mean llama"):
        read(tmp_path / "other.gguf")


def test_the_header_is_what_the_gguf_package_reads(smollm2):
    ours, theirs = open_gguf(smollm2), gguf.GGUFReader(smollm2)
    read = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.metadata == read
    assert ours.data_offset == theirs.data_offset
    for a, b in zip(ours.tensors, theirs.tensors, strict=True):
        assert (a.name, a.shape, a.kind) == (b.name, tuple(reversed(b.shape.tolist())), b.tensor_type)
        assert np.array_equal(a.data, b.data)


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder, file or packaged model"):
        find(tmp_path / "absent.gguf")


@pytest.mark.parametrize("text", [b"", b"GGUF", b"not a model at all, just words"])
def test_files_that_are_something_else(tmp_path, text):
    (tmp_path / "x.gguf").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"x\.gguf.*is not a whole GGUF file"):
        open_gguf(tmp_path / "x.gguf")
