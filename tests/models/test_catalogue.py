"""`cutaway models` and `cutaway convert`."""

import json

import pytest
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import make_config
from cutaway.core.errors import CheckpointError, DataError
from cutaway.models.catalogue import catalogue
from cutaway.models.families import config_class, families, family, make_model
from cutaway.models.huggingface import check_tokenizer, save_model


def listed(folder):
    return {entry.name: entry for entry in catalogue([folder]) if str(folder) in entry.path}


def test_lists_folders_and_files_from_their_headers(model, folder, gguf_file):
    (folder / "model.safetensors").write_bytes(b"the weights are not looked at")
    found = listed(folder.parent)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for name in ("folder", "small"):
        entry = found[name]
        assert (entry.kind, entry.family, entry.parameters) == ("decoder", "llama", parameters)
        assert (entry.context, entry.layers, entry.heads, entry.kv_heads, entry.vocabulary) == (1024, 2, 4, 2, 96)
        assert entry.memory["float32"] == 4 * parameters
        assert entry.memory["bfloat16"] == 2 * parameters
        assert entry.cache_per_token == 2 * 2 * 2 * 8 * 2


@pytest.mark.parametrize("kind", ["t5", "transformer"])
def test_lists_encoder_decoders(kind, tmp_path):
    shape = {"t5": dict(num_layers=3, num_decoder_layers=2, num_heads=5, d_kv=4, d_model=12, d_ff=8)}.get(kind, {})
    save_model(make_model({"model_type": kind, **shape}), None, tmp_path / kind)
    entry = listed(tmp_path)[kind]
    assert (entry.kind, entry.family, entry.context, entry.error) == ("encoder-decoder", kind, 512, None)
    assert (entry.layers, entry.heads, entry.kv_heads) == ((2, 5, 5) if kind == "t5" else (3, 4, 4))
    assert entry.cache_per_token == 2 * entry.layers * entry.heads * (4 if kind == "t5" else 64) * 2


def test_a_cache_of_latents_is_as_small_as_it_is(tmp_path):
    shape = {"model_type": "composed", "attention": "latent", "latent_size": 24, "rotary_size": 8}
    model = make_model(shape)
    save_model(model, None, tmp_path / "latent")
    assert 2 * listed(tmp_path)["latent"].cache_per_token == model.new_cache(1, 1).nbytes  # which is in float32


def test_every_family_is_listed(tmp_path):
    for model_type in families():
        module = family(model_type)
        config = make_config(config_class(module), {"model_type": model_type})
        (tmp_path / model_type).mkdir()
        (tmp_path / model_type / "config.json").write_text(json.dumps(module.config_to_hf(config)))
    found = listed(tmp_path)
    assert {name: entry.family for name, entry in found.items()} == {name: name for name in families()}
    assert {name for name, entry in found.items() if entry.error} == set()
    kinds = {"vae": "auto-encoder", "rnn_seq2seq": "encoder-decoder", "gpt2": "decoder", "vit": "encoder"}
    assert {name: found[name].kind for name in kinds} == kinds
    keeping = {name for name, entry in found.items() if entry.kind.endswith("decoder")} - {"rnn_seq2seq"}
    assert {name for name, entry in found.items() if entry.cache_per_token} == keeping


def test_what_cannot_be_used_says_why(folder):
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    assert "model_type='mamba'" in listed(folder.parent)["folder"].error


def test_packaged_models(smollm2, minilm):
    found = {entry.name: entry for entry in catalogue([])}
    assert found["smollm2-135m-instruct"].parameters == 134_515_008
    assert found["minilm"].kind == "encoder"
    assert found["minilm"].cache_per_token == 0


def test_command(folder):
    result = CliRunner().invoke(app, ["models", str(folder.parent), "--json"])
    assert result.exit_code == 0, result.output
    assert "folder" in {entry["name"] for entry in json.loads(result.stdout)}
    assert "llama decoder" in CliRunner().invoke(app, ["models", str(folder.parent)]).stdout
    missing = CliRunner().invoke(app, ["models", str(folder / "absent")])
    assert isinstance(missing.exception, DataError)


@pytest.mark.slow
def test_convert(smollm2, tmp_path):
    out = tmp_path / "converted"
    result = CliRunner().invoke(app, ["convert", "smollm2-135m-instruct", str(out), "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    again = CliRunner().invoke(app, ["convert", "smollm2-135m-instruct", str(out)])
    assert isinstance(again.exception, DataError)
    assert "exists already" in str(again.exception)


def test_tokenizer_of_another_model_is_refused(model):
    class Larger:
        vocab_size = 97

    with pytest.raises(CheckpointError, match="the tokeniser has 97 tokens and the model 96 embeddings"):
        check_tokenizer(Larger(), model, "here")
