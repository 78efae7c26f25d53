"""Training on images, sounds, videos and text, end to end, and asking the result."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError, RequestError
from cutaway.data.interleaved import with_media
from cutaway.data.pack import collate
from cutaway.data.parts import Part, Row, encode_row
from cutaway.decode.sampling import Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.omni import part_from_word, request
from cutaway.lens.attention import attention_maps
from cutaway.models.load import load
from cutaway.train.omni import OmniRunConfig, accuracy, omni_lm, train_omni

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RATE = 8000


def glyph(digit):
    """An 8 × 8 picture whose bright row and column tell the digit."""
    picture = np.full((8, 8), 20, np.uint8)
    picture[digit % 4 * 2] = picture[:, digit // 4 * 3] = 230
    return picture


def tones(digit, draw):
    """Two tones, as on a telephone."""
    t = np.arange(1600) / RATE
    high, low = 700 + 250 * (digit % 4), 300 + 150 * (digit // 4)
    return 0.3 * (np.sin(2 * np.pi * high * t) + np.sin(2 * np.pi * low * t)) + 0.01 * draw.standard_normal(1600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits as pictures, sounds, short videos and words, with training rows and rows held out."""
    folder, draw, rows = tmp_path_factory.mktemp("omni"), np.random.default_rng(0), {"train": [], "held": []}
    for digit, word in enumerate(WORDS):
        answer = {"text": f" {word}", "learn": True}
        for copy in range(6):
            noisy = np.clip(glyph(digit) + draw.normal(0, 8, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{digit}-{copy}.png")
            soundfile.write(folder / f"{digit}-{copy}.wav", tones(digit, draw), RATE)
            side = rows["held" if copy == 5 else "train"]
            side += [[{"image": f"{digit}-{copy}.png"}, answer], [{"audio": f"{digit}-{copy}.wav"}, answer]]
            side.append([{"video": [f"{digit}-{copy}.png", f"{digit}-{(copy + 1) % 5}.png"]}, answer])
            following = {"text": f" {WORDS[(digit + 1) % 10]}", "learn": True}
            side.append([{"text": f"after {word} comes"}, following])
    for name, side in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in side))
    return folder


def settings(folder, out, *more):
    media = dict(image_size=8, patch_size=4, num_channels=1, max_frames=2, sampling_rate=RATE, mel_bands=24)
    media |= dict(n_fft=256, hop_length=160, stack=5)
    shape = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    return [
        f"out={out}",
        f"data.path={folder / 'train.jsonl'}",
        f"data.held_out={folder / 'held.jsonl'}",
        "data.seq_len=64",
        "data.rows=4",
        "train_tokenizer.vocab_size=300",
        *(f"model.media.{name}={value}" for name, value in media.items()),
        *(f"model.{name}={value}" for name, value in shape.items()),
        "model.initializer_range=0.1",
        "loop.precision=float32",
        "loop.tensorboard=false",
        "loop.compile=off",
        "optim.lr=5e-3",
        *more,
    ]


def trained(folder, out, *more):
    return train_omni(load_config(OmniRunConfig, None, settings(folder, out, *more)))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run: its folder and report."""
    out = tmp_path_factory.mktemp("runs") / "omni"
    return out, trained(folder, out, "loop.epochs=15")


@pytest.fixture(scope="module")
def loaded(run):
    return load(run[0] / "model", dtype="float32", device="cpu")


def test_one_model_learns_every_medium(run):
    found = run[1]["accuracy"]
    assert {kinds: item["rows"] for kinds, item in found.items()} == dict.fromkeys(
        ("audio", "image", "text", "video"), 10
    )
    assert all(item["accuracy"] >= 0.9 for item in found.values()), found
    assert run[1]["rows"] == 200


def ask(loaded, *words, **more):
    fields = {"sampling": Sampling(temperature=0), "max_tokens": 6, **more}
    return request(loaded, [part_from_word(word) for word in words], **fields)


PROMPTS = [["image={}/3-5.png"], ["audio={}/7-5.wav"], ["text=after two comes"], ["video={}/8-5.png,{}/8-0.png"]]


def asked(loaded, folder, **more):
    return [ask(loaded, *(word.format(folder, folder) for word in words), **more) for words in PROMPTS]


@pytest.mark.parametrize("chunk", [512, 3])
def test_it_answers_and_a_batch_answers_alike(loaded, folder, chunk):
    config = EngineConfig(max_batch=4, prefill_chunk=chunk)
    together = Engine(loaded, config).run(asked(loaded, folder))
    alone = [Engine(loaded, config).run([one])[0] for one in asked(loaded, folder)]
    assert [said.ids for said in together] == [said.ids for said in alone]
    assert [said.text for said in together] == [" three", " seven", " three", " eight"]


def test_cached_generation_equals_a_forward_pass_for_every_token(loaded, folder):
    model = loaded.model
    for one in asked(loaded, folder, ignore_end=True):
        (said,) = Engine(loaded, EngineConfig(max_batch=1)).run([one])
        ids, media = list(one.prompt_ids), one.inputs
        for token in said.ids:
            grown = {name: pad(value, len(ids)) for name, value in media.items()}
            with torch.inference_mode():
                logits_V = model.logits(model(torch.tensor([ids]), **grown)[0, -1])
            assert int(logits_V.argmax()) == token
            ids.append(token)


def pad(value, length):
    grown = value.new_zeros(length, *value.shape[1:])
    grown[: len(value)] = value
    return grown[None]


def batch_of(loaded, folder, *rows):
    """Rows of a picture and its word, each row of the batch with those that are named."""
    config = loaded.model.config

    def piece(digit):
        parts = (Part("image", files=(folder / f"{digit}-0.png",)), Part("text", f" {WORDS[digit]}", learn=True))
        return encode_row(Row(parts, "here"), loaded.tokenizer, config.media, config.media_ids)

    pieces = [[piece(digit) for digit in row] for row in rows]
    return with_media(collate([[(p.ids, p.learned) for p in row] for row in pieces], 40, 0), pieces)


def test_packed_rows_do_not_see_each_other(loaded, folder):
    packed, other, single = (batch_of(loaded, folder, row) for row in ([3, 5, 8], [4, 5, 8], [5]))
    model, seen = loaded.model, []
    for batch in (packed, other, single):
        handle = model.final_norm.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
        omni_lm(model, batch)
        handle.remove()
    middle = packed.segments_BT[0] == 2
    torch.testing.assert_close(seen[0][0][middle], seen[1][0][middle])
    torch.testing.assert_close(seen[0][0][middle], seen[2][0][single.segments_BT[0] == 1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen[0][0][~middle], seen[1][0][~middle])


def test_a_batch_has_the_loss_of_its_rows(loaded, folder):
    together = omni_lm(loaded.model, batch_of(loaded, folder, [3, 5], [8], [1, 2, 0]))
    alone = [omni_lm(loaded.model, batch_of(loaded, folder, [digit])) for digit in (3, 5, 8, 1, 2, 0)]
    assert together[1] == sum(n for _, n, _ in alone)
    torch.testing.assert_close(together[0], sum(loss for loss, _, _ in alone), rtol=1e-4, atol=1e-5)


def test_accuracy_is_what_greedy_decoding_writes(loaded, folder):
    rows = [[3], [5], [8]]
    found = accuracy(loaded.model, [batch_of(loaded, folder, *rows)])
    said = Engine(loaded).run([ask(loaded, f"image={folder}/{digit}-0.png") for (digit,) in rows])
    right = [one.text == f" {WORDS[digit]}" for one, (digit,) in zip(said, rows, strict=True)]
    assert found == {"image": {"rows": 3, "accuracy": sum(right) / 3}}


def test_the_lens_and_plain_generation_work_on_it(loaded):
    ids = loaded.tokenizer.encode("after two comes")
    maps = attention_maps(loaded.model, torch.tensor([ids]))
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    (said,) = Engine(loaded).generate([ids], Sampling(temperature=0), 4)
    assert said.text == " three"


def test_a_stopped_run_goes_on_as_if_it_had_not_been(folder, check_resumed):
    short = ("loop.steps=8", "loop.checkpoint_every=3", "loop.eval_every=4")
    check_resumed(lambda out: trained(folder, out, *short))


def test_a_checkpoint_to_go_on_from(run, folder, tmp_path):
    words = [word for word in settings(folder, tmp_path / "more") if not word.startswith(("model", "train_tok"))]
    more = [*words, f"start={run[0] / 'model'}", "loop.steps=1", "optim.lr=1e-9"]
    report = train_omni(load_config(OmniRunConfig, None, more))
    assert report["held_out_loss"]["held_out"]["before"] == pytest.approx(run[1]["held_out_loss"]["held_out"]["after"])


def test_the_commands(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "0-0.png").write_text("no image")
    words = settings(tmp_path / "data", tmp_path / "run", "loop.steps=2", "data.bad=skip")
    said = CliRunner().invoke(app, ["omni", "train", *words], catch_exceptions=False).stdout
    assert "left out: 1 rows with image that cannot be used" in said
    assert "audio " in said
    model = str(tmp_path / "run" / "model")
    parts = [f"image={folder}/1-0.png", "text= is", f"audio={folder}/1-0.wav"]
    said = CliRunner().invoke(
        app, ["omni", "ask", model, *parts, "--max-tokens", "3", "--json"], catch_exceptions=False
    )
    assert json.loads(said.stdout).keys() == {"positions", "text", "finish_reason"}


def test_a_model_that_reads_no_media(tiny_folder, folder, tmp_path):
    words = [word for word in settings(folder, tmp_path / "run") if not word.startswith(("model", "train_tok"))]
    with pytest.raises(ConfigError, match=r"model='llama': reads no media.*omni"):
        train_omni(load_config(OmniRunConfig, None, [*words, f"start={tiny_folder}"]))
    with pytest.raises(ConfigError, match="reads no media"):
        ask(load(tiny_folder), "text=x")


def test_a_tokeniser_without_the_tokens(tiny_folder, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"lacks the model's special tokens <\|image\|>"):
        trained(folder, tmp_path / "run", f"tokenizer={tiny_folder}")


def test_rows_longer_than_the_context(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"data.seq_len=64: is longer than the model's context of 32"):
        trained(folder, tmp_path / "run", "model.max_position_embeddings=32")


@pytest.mark.parametrize("word", ["picture=x.png", "image", "image=", "x"])
def test_words_that_are_no_part(word):
    with pytest.raises(RequestError, match=r"parts='.*': is no part"):
        part_from_word(word)


def test_a_file_that_is_none(loaded):
    with pytest.raises(DataError, match=r"parts image='nowhere.png': no such file"):
        ask(loaded, "image=nowhere.png")


@pytest.mark.slow
def test_digits_spoken_digits_and_text(data, tmp_path):
    """Real data: handwritten digits, recordings of spoken ones by six people, and what comes after what."""
    from sklearn.datasets import load_digits

    digits, rows = load_digits(), {"train": [], "held": []}
    for number, (picture, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        Image.fromarray((picture / 16 * 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        answer = {"text": f" {WORDS[digit]}", "learn": True}
        rows["held" if number % 6 == 0 else "train"].append([{"image": f"{number}.png"}, answer])
    for file in sorted((data / "fsdd_small").glob("*.wav")):
        answer = {"text": f" {WORDS[int(file.name[0])]}", "learn": True}
        rows["held" if file.stem.endswith("_4") else "train"].append([{"audio": str(file)}, answer])
    for digit, word in enumerate(WORDS):
        row = [{"text": f"after {word} comes"}, {"text": f" {WORDS[(digit + 1) % 10]}", "learn": True}]
        rows["train"] += [row] * 20
        rows["held"].append(row)
    for name, side in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in side))
    shape = ("model.hidden_size=64", "model.intermediate_size=128", "model.num_hidden_layers=3")
    sound = ("model.media.patch_size=2", "model.media.mel_bands=32", "model.media.hop_length=80", "model.media.stack=4")
    length = ("data.seq_len=96", "data.rows=8", "loop.epochs=20", "optim.lr=3e-3", "model.initializer_range=0.02")
    found = trained(tmp_path, tmp_path / "run", *shape, *sound, *length)["accuracy"]
    print({kinds: f"{item['accuracy']:.1%} of {item['rows']}" for kinds, item in found.items()})
    assert found["image"]["accuracy"] > 0.92
    assert found["audio"]["accuracy"] > 0.75
    assert found["text"]["accuracy"] == 1.0
