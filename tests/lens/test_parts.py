"""Every view of a multimodal model on texts, an image, a sound and a video in one row; from the library and the command line."""

import json
import sys

import numpy
import pytest
import soundfile
import torch
from PIL import Image

from cutaway.cli.main import main
from cutaway.core.errors import ConfigError, DataError, RequestError
from cutaway.data.interleaved import with_media
from cutaway.data.pack import collate
from cutaway.data.parts import Part, Row, encode_prompt, find_row
from cutaway.lens.attention import named_maps
from cutaway.lens.inputs import read_parts
from cutaway.lens.layers import read_input, text_loss
from cutaway.lens.views import VIEWS
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import Loaded
from cutaway.train.omni import omni_lm

MEDIA = dict(
    image_size=8, patch_size=4, num_channels=1, max_frames=2, sampling_rate=8000, mel_bands=6, n_fft=256, stack=5
)
SHAPE = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture
def loaded(tokenizer, tmp_path):
    torch.manual_seed(0)
    ids = dict(image_token_id=1, audio_token_id=2, video_token_id=3, initializer_range=0.3)
    model = make_model(
        {"model_type": "omni", "vocab_size": tokenizer.vocab_size, "media": MEDIA, **SHAPE, **ids}
    ).eval()
    return Loaded(model, tokenizer, "tiny", tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures, a tenth of a second of sound, and rows of them."""
    folder, draw = tmp_path_factory.mktemp("parts"), numpy.random.default_rng(0)
    for name in "ab":
        Image.fromarray(draw.integers(0, 255, (8, 8), numpy.uint8)).save(folder / f"{name}.png")
    soundfile.write(folder / "a.wav", draw.uniform(-0.5, 0.5, 800), 8000)
    first = [{"text": "ab"}, {"image": "a.png"}, {"image": "b.png"}, {"audio": "a.wav"}, {"video": ["a.png", "b.png"]}]
    rows = [[*first, {"text": "cd", "learn": True}], [{"image": "b.png"}, {"text": "a"}]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def row(folder):
    return find_row(str(folder / "rows.jsonl"))


@pytest.mark.parametrize("what", VIEWS)
def test_a_view_works_or_says_why_not(loaded, row, what):
    x = read_parts(loaded, row)
    if what == "experts":
        with pytest.raises(ConfigError, match="without experts"):
            VIEWS[what](loaded, x)
        return
    view = VIEWS[what](loaded, x)
    assert view.rows
    assert json.loads(json.dumps(view.data, allow_nan=False))
    assert view.draw().axes


def test_positions_are_named(loaded, row):
    """Patches by their place in the image or among the frames, sounds by their order, texts by their tokens."""
    tokens = VIEWS["attention"](loaded, read_parts(loaded, row)).data["tokens"]
    images = [*(f"image {n}" for n in range(4))] * 2
    heard = [f"audio {n}" for n in range(len(tokens) - 4 - 8 - 8)]
    assert heard
    assert tokens == ["a", "b", *images, *heard, *(f"video {n}" for n in range(8)), "c", "d"]
    near = VIEWS["neighbours"](loaded, read_parts(loaded, row)).data["tokens"]
    assert [one["text"] for one in near] == ["a", "b", "c", "d"], "a medium's place has no meaning of its own"


def test_what_is_looked_at_is_what_the_model_reads(loaded, row):
    model, x = loaded.model, read_parts(loaded, row)
    piece = encode_prompt(row, loaded.tokenizer, model.config.media, model.config.media_ids)
    with torch.no_grad():
        media = {"features_BTF": piece.features_TF[None], "places_BT": piece.places_T[None]}
        assert torch.equal(read_input(model, x), model(torch.from_numpy(piece.ids)[None], **media))
    other = read_parts(loaded, Row((*row.parts[:1], row.parts[2], *row.parts[2:]), row.where))
    assert not torch.equal(read_input(model, x), read_input(model, other)), "of equal tokens, another picture"
    for weights_BHTS in named_maps(model, x).values():
        torch.testing.assert_close(weights_BHTS.sum(-1), torch.ones(weights_BHTS.shape[:-1]))


@pytest.mark.parametrize("marked", [True, False])
def test_the_loss_is_that_of_training(loaded, row, marked):
    parts = row.parts if marked else tuple(Part(part.kind, part.text, part.files) for part in row.parts)
    row = Row(parts, row.where)
    piece = encode_prompt(row, loaded.tokenizer, loaded.model.config.media, loaded.model.config.media_ids)
    batch = with_media(collate([[(piece.ids, piece.learned)]], len(piece.ids) - 1, 0), [[piece]])
    total, n, _ = omni_lm(loaded.model, batch)
    assert n == (2 if marked else 3), "the first token of all is predicted by nothing"
    torch.testing.assert_close(text_loss(loaded.model, read_parts(loaded, row)), total / n)


def test_rows_that_cannot_be(loaded, row, folder, tokenizer, tmp_path):
    with pytest.raises(RequestError, match="parts: hold no text after something else"):
        VIEWS["gradients"](loaded, read_parts(loaded, Row((Part("text", "a"), row.parts[1]), "x")))
    gpt2 = Loaded(
        make_model({"model_type": "gpt2", "vocab_size": 256, "n_embd": 16, "n_head": 2, "n_layer": 1}),
        tokenizer,
        "g",
        tmp_path,
    )
    with pytest.raises(ConfigError, match=r"gpt2 reads text \(a text\)"):
        read_parts(gpt2, row)
    with pytest.raises(ConfigError, match="reads text, not parts of many kinds"):
        read_input(gpt2.model, read_parts(loaded, row))
    with pytest.raises(DataError, match=r"x image='.*none.png': no such file"):
        read_parts(loaded, Row((Part("image", files=(folder / "none.png",)),), "x"))
    with pytest.raises(DataError, match=r"row='.*rows.jsonl:3': holds no such row"):
        find_row(f"{folder / 'rows.jsonl'}:3")


@pytest.fixture
def inspect(loaded, monkeypatch, capsys, tmp_path):
    save_model(loaded.model, loaded.tokenizer, tmp_path / "model")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cutaway", "inspect", str(tmp_path / "model"), *map(str, words)])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    return run


def test_the_command_reads_a_row_of_a_file_and_one_that_is_typed(inspect, folder):
    rows, typed = folder / "rows.jsonl", ["--part", f"image={folder / 'b.png'}", "--part", "text=a"]
    code, said, error = inspect("--what", "activations", "--row", f"{rows}:2", "--json")
    assert code == 0, error
    by_name = json.loads(said)
    assert by_name["row"] == f"{rows}:2"
    by_hand = json.loads(inspect("--what", "activations", *typed, "--json")[1])
    assert by_hand["part"] == [f"image={folder / 'b.png'}", "text=a"]
    assert by_hand["activations"] == by_name["activations"]
    assert inspect("--what", "spectrum")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--what", "pca", "--part", "picture=a.png"], "parts='picture=a.png': is no part"),
        (["--what", "pca", "--part", "image=none.png"], "--part image='none.png': no such file"),
        (["abc", "--what", "pca", "--part", "text=a"], "does not go with --part"),
        (["--what", "pca", "--part", "text=a", "--row", "rows.jsonl"], "does not go with --part"),
        (["--part", "text=a"], "it needs --what"),
        (["--what", "pca", "--row", "none.jsonl:2"], "no such file"),
        (["--what", "pca", "--image", "a.png"], "omni reads text or parts (a text or --part image=FILE"),
    ],
)
def test_bad_words_are_named(inspect, words, says):
    code, _, error = inspect(*words)
    assert code == 2
    assert says in error
    assert "Traceback" not in error
