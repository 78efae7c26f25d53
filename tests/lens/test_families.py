"""Every view on every kind of input of every family: it works, or is refused by a message that says why."""

import json
import math
import struct
import sys
import wave

import pytest
import torch
from PIL import Image

from cutaway.cli.main import main
from cutaway.core.errors import ConfigError
from cutaway.lens.attention import named_maps
from cutaway.lens.gradient_norms import gradient_norms
from cutaway.lens.inputs import open_model, read_file
from cutaway.lens.layers import layer_names, text_loss
from cutaway.lens.views import VIEWS
from cutaway.models.families import families, make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded

_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
_SHAPE = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, **_HEADS}
_TOWER = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
_IMAGE = {"image_size": 8, "patch_size": 4}
_DECODERS = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "omni", "qwen2_moe", "qwen3_moe", "composed")
SHAPES = {
    **dict.fromkeys(_DECODERS, _SHAPE),
    **{family: {"vocab_size": 256, **_TOWER, "head": "masked"} for family in ("bert", "roberta")},
    "gpt2": {"vocab_size": 256, "n_embd": 16, "n_layer": 2, "n_head": 2},
    "t5": {"vocab_size": 256, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 1, "num_heads": 2},
    "transformer": {
        "vocab_size": 256,
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "num_attention_heads": 2,
    },
    "rnn_seq2seq": {"vocab_size": 256, "hidden_size": 16, "num_layers": 2},
    "text_vae": {"vocab_size": 256, "hidden_size": 16, "latent_size": 4},
    "vae": {"hidden_sizes": (20,), "latent_size": 4},
    "vit": {**_TOWER, **_IMAGE},
    "clip": {"text_config": {"vocab_size": 256, **_TOWER}, "vision_config": {**_TOWER, **_IMAGE}, "projection_dim": 8},
    "vision-encoder-decoder": {
        "encoder": {**_TOWER, **_IMAGE},
        "decoder": {"vocab_size": 256, "n_embd": 16, "n_layer": 2, "n_head": 2},
        "decoder_start_token_id": 0,
    },
    "whisper": {
        "vocab_size": 50_258,
        "num_mel_bins": 8,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 20,
        "decoder_ffn_dim": 20,
        "max_source_positions": 6,
        "max_target_positions": 16,
    },
}
_MEDIA = dict.fromkeys(("vit", "clip", "vae", "vision-encoder-decoder"), ("image",)) | {"whisper": ("audio",)}
_NO_BLOCKS = dict.fromkeys(("jacobian", "units"), "has no transformer blocks")
_NO_WORDS = {"gradients": "no head that says words"}
_NO_TEXT = dict.fromkeys(set(VIEWS) - {"spectrum", "neighbours", "experts"}, "reads .*, not a text")
_NO_TOKENS = {"neighbours": "has no token embedding"}
_ONLY_TOKENS = {"neighbours": "only tokens of a text"}
REFUSED = {  # family and input: what is not there to look at, and what the message says
    ("rnn_seq2seq", "text"): _NO_BLOCKS,
    ("text_vae", "text"): {**_NO_BLOCKS, "attention": "has no attention"},
    ("clip", "text"): _NO_WORDS,
    ("clip", "image"): {**_NO_WORDS, **_ONLY_TOKENS},
    ("vit", "image"): {**_NO_WORDS, **_NO_TOKENS},
    ("vit", "text"): {**_NO_TEXT, **_NO_TOKENS},
    ("vae", "image"): {**_NO_WORDS, **_NO_TOKENS, **_NO_BLOCKS, "attention": "has no attention", "pca": "two vectors"},
    ("vae", "text"): {**_NO_TEXT, **_NO_TOKENS, **_NO_BLOCKS, "attention": "has no attention"},
    ("whisper", "audio"): {**_NO_WORDS, **_ONLY_TOKENS},
    ("whisper", "text"): _NO_TEXT,
    ("vision-encoder-decoder", "image"): {**_NO_WORDS, **_ONLY_TOKENS},
    ("vision-encoder-decoder", "text"): _NO_TEXT,
}
WITH_EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")
INPUTS = [(family, kind) for family in SHAPES for kind in ["text", *_MEDIA.get(family, ())]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A picture and half a second of a tone."""
    folder = tmp_path_factory.mktemp("media")
    Image.radial_gradient("L").resize((13, 11)).convert("RGB").save(folder / "image.png")
    with wave.open(str(folder / "audio.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(b"".join(struct.pack("<h", int(9_000 * math.sin(n / 9))) for n in range(8_000)))
    return {"image": folder / "image.png", "audio": folder / "audio.wav"}


@pytest.fixture
def shown(files, tokenizer, tmp_path):
    """A small model of a family, and an input of a kind."""

    def make(family: str, kind: str) -> tuple[Loaded, torch.Tensor]:
        torch.manual_seed(0)
        loaded = Loaded(make_model({"model_type": family, **SHAPES[family]}).eval(), tokenizer, "tiny", tmp_path)
        text = torch.tensor([[40, 50, 60, 50, 70]])
        return loaded, text if kind == "text" else read_file(loaded, kind, files[kind])

    return make


def test_no_family_is_left_out():
    assert set(SHAPES) == set(families())


@pytest.mark.parametrize("what", VIEWS)
@pytest.mark.parametrize(("family", "kind"), INPUTS)
def test_a_view_works_or_says_why_not(shown, family, kind, what):
    loaded, x = shown(family, kind)
    refused = REFUSED.get((family, kind), {})
    if what == "experts" and family not in WITH_EXPERTS:
        refused = {"experts": "without experts"}
    if what in refused:
        with pytest.raises(ConfigError, match=refused[what]):
            VIEWS[what](loaded, x)
        return
    view = VIEWS[what](loaded, x)
    assert view.rows
    assert all(len(row) == len(view.columns) for row in view.rows)
    assert json.loads(json.dumps(view.data, allow_nan=False))
    assert view.draw().axes
    assert not any(module._forward_hooks for module in loaded.model.modules())


@pytest.mark.parametrize("what", VIEWS)
def test_views_of_an_encoder_that_tells_sounds_apart(files, tmp_path, what):
    torch.manual_seed(0)
    model = make_model({"model_type": "whisper", **SHAPES["whisper"], "labels": ("high", "low")})
    save_model(model, None, tmp_path / "m")
    loaded = open_model(str(tmp_path / "m"))
    x = read_file(loaded, "audio", files["audio"])
    refused = {**_NO_WORDS, **_NO_TOKENS, "experts": "without experts"}
    if what in refused:
        with pytest.raises(ConfigError, match=refused[what]):
            VIEWS[what](loaded, x)
    else:
        assert VIEWS[what](loaded, x).rows


@pytest.mark.parametrize(("family", "kind"), [("vit", "image"), ("whisper", "audio"), ("rnn_seq2seq", "text")])
def test_maps_are_weights(shown, family, kind):
    loaded, x = shown(family, kind)
    for weights_BHTS in named_maps(loaded.model, x).values():
        torch.testing.assert_close(weights_BHTS.sum(-1), torch.ones(weights_BHTS.shape[:-1]))


def test_a_recurrent_encoder_hands_on_its_last_state_alone(shown):
    loaded, x = shown("text_vae", "text")
    encoder_T, decoder_T = gradient_norms(loaded.model, x).stream_LT
    assert (encoder_T > 0).tolist() == [False] * 4 + [True]
    assert (decoder_T > 0).all()


@pytest.mark.parametrize("family", ["rnn_seq2seq", "text_vae"])
def test_gradients_are_autograds(shown, family):
    """The norm by the weights of the last layer, against autograd of the model's own parameters."""
    loaded, x = shown(family, "text")
    text_loss(loaded.model, x).backward()
    last = loaded.model.get_submodule(layer_names(loaded.model)[-1])
    expected = torch.nn.utils.get_total_norm([weight.grad for weight in last.parameters()])
    assert gradient_norms(loaded.model, x).weights[-1] == pytest.approx(float(expected))


@pytest.fixture
def inspect(monkeypatch, capsys):
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cutaway", "inspect", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def save(tokenizer, tmp_path):
    def saved(family: str):
        torch.manual_seed(0)
        model = make_model({"model_type": family, **SHAPES[family]})
        save_model(model, tokenizer if hasattr(model, "embedding") else None, tmp_path / family)
        return tmp_path / family

    return saved


@pytest.mark.parametrize(
    ("family", "kind"), [("vit", "image"), ("vae", "image"), ("clip", "image"), ("whisper", "audio")]
)
def test_the_command_reads_files(inspect, save, files, tmp_path, family, kind):
    code, said, error = inspect(
        save(family), "--what", "activations", f"--{kind}", files[kind], "--out", tmp_path / "o"
    )
    assert code == 0, error
    assert "activations.png" in said
    report = json.loads((tmp_path / "o" / "activations.json").read_text())
    assert report[kind] == str(files[kind])
    assert inspect(save(family), "--what", "spectrum")[0] == 0


@pytest.mark.parametrize(
    ("family", "words", "says"),
    [
        ("vit", ["abc", "--what", "units"], "--image FILE"),
        ("vit", ["--what", "units", "--audio", "AUDIO"], "--audio"),
        ("vit", ["--what", "units", "--image", "none.png"], "no such file"),
        ("vit", ["--what", "units", "--image", "AUDIO"], "does not decode"),
        ("gpt2", ["--what", "units", "--image", "IMAGE"], "family gpt2 reads text"),
        ("clip", ["abc", "--what", "units", "--image", "IMAGE"], "does not go with --image"),
        ("gpt2", ["--what", "neighbours"], "holds no token"),
        ("gpt2", ["abc", "--image", "IMAGE"], "it needs --what"),
    ],
)
def test_bad_inputs_are_named(inspect, save, files, family, words, says):
    words = [files.get(word.lower(), word) if word.isupper() else word for word in words]
    code, _, error = inspect(save(family), *words)
    assert code == 2
    assert says in error
    assert "Traceback" not in error


@pytest.mark.parametrize("shape", [None, (3, 4, 5)])
def test_images_as_vectors(files, tokenizer, tmp_path, shape):
    size = 60 if shape else 64
    model = make_model({"model_type": "vae", "vector_size": size, "image_shape": shape})
    x = read_file(Loaded(model, tokenizer, "tiny", tmp_path), "image", files["image"])
    assert x.shape == (1, size)
    assert 0 <= float(x.min()) < float(x.max()) <= 1


def test_vectors_that_are_no_image(files, tokenizer, tmp_path):
    loaded = Loaded(make_model({"model_type": "vae", "vector_size": 60}), tokenizer, "tiny", tmp_path)
    with pytest.raises(ConfigError, match="no square image"):
        read_file(loaded, "image", files["image"])
