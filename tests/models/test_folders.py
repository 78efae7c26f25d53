"""Hugging Face folders: what loads, and what is refused, by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core.errors import CheckpointError, ConfigError, ResourceError, UnsafeFileError
from cutaway.models import huggingface
from cutaway.models.families import families, make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.load import find

CPU = torch.device("cpu")


def read(folder, dtype=torch.float32):
    return load_model(folder, dtype, CPU)


def change_tensors(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **over):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **over}))


def test_round_trip_in_every_precision(model, folder):
    assert all(map(torch.equal, model.parameters(), read(folder).parameters()))
    for dtype in (torch.bfloat16, torch.float16):
        assert {parameter.dtype for parameter in read(folder, dtype).parameters()} == {dtype}


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe"])
def test_a_fresh_model_of_any_type_comes_back(kind, tmp_path):
    """What a type implies (norms of queries and keys, biases) holds when a model is made as when it is read."""
    small = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    fresh = make_model({"model_type": kind, **small, "num_attention_heads": 4, "num_key_value_heads": 2}).eval()
    save_model(fresh, None, tmp_path / "model")
    again, ids = read(tmp_path / "model"), torch.arange(9)[None]
    assert again.config == fresh.config
    torch.testing.assert_close(again(ids), fresh(ids))


def test_shards_with_an_index(model, folder):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for number, names in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: state[name] for name in names}, folder / shard)
        index |= dict.fromkeys(names, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert all(map(torch.equal, model.parameters(), read(folder).parameters()))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards are missing: model-00002-of-00002.safetensors"):
        read(folder)
    for index in ("{", "[]", '{"weight_map": {"a": ["b"]}}', '{"weight_map": {"a": 1, "b": "c"}}'):
        (folder / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError, match=r"index=.*cannot be read"):
            read(folder)


NORM = "model.norm.weight"
BAD_TENSORS = {
    f"missing: {NORM}": lambda state: state.pop(NORM),
    "unexpected: extra.weight": lambda state: state.update({"extra.weight": torch.zeros(2)}),
    rf"misshapen: {NORM} \[3\] instead of \[32\]": lambda state: state.update({NORM: torch.zeros(3)}),
    f"not finite: {NORM}": lambda state: state[NORM].fill_(float("nan")),
}


@pytest.mark.parametrize("message", BAD_TENSORS)
def test_tensors_that_do_not_fit_are_named(folder, message):
    change_tensors(folder, BAD_TENSORS[message])
    with pytest.raises(CheckpointError, match=message):
        read(folder)


def test_numbers_that_a_narrower_format_cannot_hold_are_named(folder):
    change_tensors(folder, lambda state: state[NORM].fill_(1e5))
    with pytest.raises(CheckpointError, match=f"too large for float16: {NORM}"):
        read(folder, torch.float16)
    read(folder, torch.bfloat16)


def test_frequencies_that_old_checkpoints_store_are_not_read(model, folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda state: state.update({name: torch.zeros(4)}))
    assert all(map(torch.equal, model.parameters(), read(folder).parameters()))


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.999])
def test_truncated_safetensors(folder, keep):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"model.safetensors.*truncated or corrupt"):
        read(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_pickles_are_refused_with_a_reason(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(UnsafeFileError, match="can run any code"):
        read(folder)
    with pytest.raises(UnsafeFileError, match="can run any code"):
        find(folder / name)


BAD_CONFIGS = {
    "model_type='lama'.*did you mean llama": {"model_type": "lama"},
    "model_type.*known: bert, ": {"model_type": None},
    r"model_type=\['llama'\].*unsupported": {"model_type": ["llama"]},
    "hidden_act='gelu'.*only silu": {"hidden_act": "gelu"},
    "hidden_size": {"hidden_size": "wide"},
    "not a multiple of num_key_value_heads": {"num_key_value_heads": 3},
    "rope_type": {"rope_parameters": {"rope_type": "spiral"}},
    "config.json": {"rope_parameters": "spiral"},
    "max_window_layers=1.*some layers only": dict(use_sliding_window=True, sliding_window=8, max_window_layers=1),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_configurations_that_cannot_be_met(folder, message):
    change_config(folder, **BAD_CONFIGS[message])
    with pytest.raises(CheckpointError, match=message):
        read(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\xff"])
def test_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config.json"):
        read(folder)


def test_config_without_a_required_key(folder):
    values = json.loads((folder / "config.json").read_text())
    del values["vocab_size"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="vocab_size: is required"):
        read(folder)


def test_gpt2_variants_are_refused(tmp_path):
    save_model(make_model({"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2}), None, tmp_path / "gpt2")
    change_config(tmp_path / "gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(CheckpointError, match="scale_attn_by_inverse_layer_idx=True: only false"):
        read(tmp_path / "gpt2")


def test_unknown_names():
    with pytest.raises(CheckpointError, match="did you mean smollm2-135m-instruct"):
        find("smollm2-135m-instrukt")
    with pytest.raises(CheckpointError, match="no model is fetched from a hub"):
        find("meta-llama/Llama-3.2-1B")
    with pytest.raises(ConfigError, match=r"model_type=\['llama'\]: unknown"):
        make_model({"model_type": ["llama"]})


def test_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config.json"):
        read(tmp_path)


def test_no_permission(folder, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(huggingface, "safe_open", denied)
    with pytest.raises(CheckpointError, match="Permission denied"):
        read(folder)


def test_full_disk_leaves_the_old_folder(model, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface, "save_file", full)
    with pytest.raises(ResourceError, match="the disk is full; nothing was changed"):
        save_model(model, None, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_every_family_builds_from_its_defaults_on_no_memory():
    for kind in families():
        with torch.device("meta"):
            model = make_model({"model_type": kind})
        assert all(parameter.is_meta for parameter in model.parameters()), kind


def test_a_fresh_model_depends_on_the_seed_alone():
    shape = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(make_model(shape).embedding.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert abs(drawn[0].std().item() - 0.02) < 1e-3


@pytest.mark.parametrize("dynamic", [False, True])
def test_blocks_compile_as_one_graph(model, dynamic):
    """No data-dependent Python in a block: dynamo captures it whole, for one length and for any."""
    import torch._dynamo

    torch._dynamo.reset()
    block = torch.compile(model.blocks[0], backend="eager", fullgraph=True, dynamic=dynamic)
    x = torch.randn(1, 5, 32)
    rope = (torch.ones(1, 5, 8), torch.zeros(1, 5, 8))
    torch.testing.assert_close(block(x, rope, None), model.blocks[0](x, rope, None))
    torch._dynamo.reset()
