"""Images and sounds through the recipes of pairs, of contrasts and of labels: what is learned, resumed, saved and refused."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    CLIPModel,
    VisionEncoderDecoderModel,
    ViTForImageClassification,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.described import Described, FilesConfig, Media
from cutaway.data.examples import Skipped
from cutaway.data.images import ImageConfig
from cutaway.data.preprocess import pieces, preprocessor, to_hf
from cutaway.loss.contrastive import info_nce
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.load import load
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.classify import ClassifyConfig, classify
from cutaway.train.contrast import ContrastRunConfig, contrast, image_text
from cutaway.train.seq2seq import Seq2SeqConfig, train_seq2seq

WORDS = ["zero", "one", "two", "three"]
RATE, CPU = 16_000, torch.device("cpu")
EYE = dict(image_size=8, patch_size=4, num_channels=1, hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
VIT = {**EYE, "intermediate_size": 32, "initializer_range": 0.1}
LOOP = ["loop.precision=float32", "loop.tensorboard=false", "loop.compile=off", "data.rows=8", "optim.lr=1e-2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four things as pictures and as tones, five noisy copies each, the last of them held out; four listings of them."""
    folder, draw = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    listings = {"captions": [], "sounds": [], "labels": [], "notes": []}
    for number, word in enumerate(WORDS):
        picture, t = np.full((8, 8), 20.0), np.arange(1600) / RATE
        picture[2 * number : 2 * number + 2] = 230
        for copy in range(5):
            name = f"{number}-{copy}"
            noisy = np.clip(picture + draw.normal(0, 8, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{name}.png")
            tone = 0.4 * np.sin(2 * np.pi * (400 + 500 * number) * t) + 0.01 * draw.standard_normal(1600)
            soundfile.write(folder / f"{name}.wav", tone, RATE)
            side = "held" if copy == 4 else "train"
            listings["captions"].append((side, {"image": f"{name}.png", "text": f"a {word}"}))
            listings["sounds"].append((side, {"audio": f"{name}.wav", "text": word}))
            listings["labels"].append((side, {"image": f"{name}.png", "label": number}))
            listings["notes"].append((side, {"audio": f"{name}.wav", "label": word}))
    for kind, rows in listings.items():
        for side in ("train", "held"):
            write(folder / f"{kind}-{side}.jsonl", [row for where, row in rows if where == side])
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(folder, kind, out, *more):
    names = [f"data.source={folder / f'{kind}-train.jsonl'}", f"data.held_out_source={folder / f'{kind}-held.jsonl'}"]
    fixed = ["data.seq_len=16", "train_tokenizer.vocab_size=300", "loss.label_smoothing=0"]
    return [*names, f"out={out}", *LOOP, *fixed, *more]


def rows(folder, kind, out, *more):
    names = [f"data.path={folder / f'{kind}-train.jsonl'}", f"data.held_out={folder / f'{kind}-held.jsonl'}"]
    return [*names, f"out={out}", *LOOP, "start=null", *more]


def flat(prefix, shape):
    return [f"{prefix}.{name}={value}" for name, value in shape.items()]


WRITER = dict(n_positions=16, n_embd=24, n_layer=1, n_head=2, initializer_range=0.1)
CAPTIONER = ["model.model_type=vision-encoder-decoder", *flat("model.encoder", VIT), *flat("model.decoder", WRITER)]
HEARING = dict(num_mel_bins=16, d_model=24, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2)
HEARING |= dict(decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=16)
WHISPER = ["model.model_type=whisper", "model.max_source_positions=5", "model.init_std=0.1", *flat("model", HEARING)]
TEXT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
TEXT |= dict(max_position_embeddings=16, initializer_range=0.1)
CLIP = ["model.model_type=clip", "model.projection_dim=12", "data.seq_len=16", "train_tokenizer.vocab_size=300"]
CLIP += [*flat("model.vision_config", VIT), *flat("model.text_config", TEXT)]


def run(config, words):
    recipe = {Seq2SeqConfig: train_seq2seq, ContrastRunConfig: contrast, ClassifyConfig: classify}[config]
    return recipe(load_config(config, None, words))


def said(model, file):
    result = CliRunner().invoke(app, ["translate", str(model), str(file), "beam.width=1", "max_tokens=8"])
    assert result.exception is None, result.exception
    return result.stdout.strip()


@pytest.fixture(scope="module")
def captioner(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "captions"
    return out, run(Seq2SeqConfig, pairs(folder, "captions", out, *CAPTIONER, "loop.steps=80"))


def test_images_become_captions(folder, captioner):
    out, report = captioner
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < 0.1 < 1 < loss["before"]
    assert report["pairs"] == 16
    assert said(out / "model", folder / "1-4.png") == "a one"
    words = [
        "translate",
        str(out / "model"),
        str(folder / "captions-held.jsonl"),
        "beam.width=1",
        "max_tokens=8",
        "--json",
    ]
    scored = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert scored["targets"] == [f"a {word}" for word in WORDS]
    assert scored["chrf"] == scored["rougeL"] == 100.0
    refused = CliRunner().invoke(app, ["translate", str(out / "model"), "--text", "one"]).exception
    assert "reads image, not text" in str(refused)


def test_transformers_captions_from_the_folder_alike(folder, captioner):
    """The model, how it wants its images, and where a text begins and ends: all of it is in the files."""
    model = captioner[0] / "model"
    theirs, tokenizer = VisionEncoderDecoderModel.from_pretrained(model).eval(), load(model).tokenizer
    wants = preprocessor("image", model)
    assert to_hf(wants).items() <= json.loads((model / "preprocessor_config.json").read_text()).items()
    for number, word in enumerate(WORDS):
        ids = theirs.generate(pieces(folder / f"{number}-4.png", wants), max_new_tokens=8, do_sample=False)
        assert tokenizer.decode(ids[0].tolist()).strip() == f"a {word}"


def test_sounds_become_transcripts(folder, tmp_path):
    report = run(Seq2SeqConfig, pairs(folder, "sounds", tmp_path / "run", *WHISPER, "loop.steps=60"))
    assert report["held_out_loss"]["held_out"]["after"] < 0.1
    words = ["translate", str(tmp_path / "run" / "model"), str(folder / "sounds-held.jsonl"), "max_tokens=8", "--json"]
    told = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert told["targets"] == WORDS
    assert told["wer"] == told["cer"] == 0.0
    assert WhisperFeatureExtractor.from_pretrained(tmp_path / "run" / "model").sampling_rate == RATE


def test_a_stopped_run_goes_on_as_if_it_had_not_been(folder, check_resumed):
    short = [*CAPTIONER, "loop.steps=4", "loop.checkpoint_every=3", "data.decoded=0"]
    check_resumed(lambda out: run(Seq2SeqConfig, pairs(folder, "captions", out, *short)))


@pytest.fixture
def published(tiny_chat, tmp_path):
    """A Whisper as its makers publish it: it writes many languages, no times, and some tokens never."""
    end = "<|im_end|>"
    tokenizer = Tokenizer(tiny_chat(32).tokenizer.backend, bos=end, eos=end, pad=end)
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), tokenizer.eos_id)
    shape = {**HEARING, **ids, "decoder_start_token_id": 3, "max_source_positions": 5}
    torch.manual_seed(0)
    model = make_model({"model_type": "whisper", "vocab_size": tokenizer.vocab_size, **shape})
    save_model(model, tokenizer, tmp_path / "start")
    rules = dict(lang_to_id={"<|en|>": 5, "<|de|>": 6}, forced_decoder_ids=[[1, None], [2, 7]])
    rules |= dict(no_timestamps_token_id=8, suppress_tokens=[9])
    (tmp_path / "start" / "generation_config.json").write_text(json.dumps(rules))
    (tmp_path / "start" / "preprocessor_config.json").write_text(json.dumps({"feature_size": 16, "chunk_length": 0.1}))
    return tmp_path / "start"


def test_a_published_whisper_is_tuned_with_its_prompt(published, folder, tmp_path):
    words = [word for word in pairs(folder, "sounds", tmp_path / "run", "loop.steps=1") if "tokenizer" not in word]
    with pytest.raises(ConfigError, match=r"language: must say which is learned.*en, de"):
        run(Seq2SeqConfig, [*words, f"start={published}"])
    with pytest.raises(ConfigError, match=r"language='fr': is no language that the model is told"):
        run(Seq2SeqConfig, [*words, f"start={published}", "language=fr"])
    run(Seq2SeqConfig, [*words, f"start={published}", "language=de"])
    kept = json.loads((tmp_path / "run" / "model" / "generation_config.json").read_text())
    assert kept["forced_decoder_ids"] == [[1, 6], [2, 7], [3, 8]]
    assert kept["suppress_tokens"] == [9]
    assert said(tmp_path / "run" / "model", folder / "0-0.wav") is not None


def test_what_a_prompt_says_is_not_learned():
    from cutaway.data.pairs import collate_targets
    from cutaway.loss.language_modelling import IGNORED

    read, learned = collate_targets([[20, 21, 2], [22, 2]], [3, 6, 7], 0)
    assert read.tolist() == [[3, 6, 7, 20, 21], [3, 6, 7, 22, 0]]
    assert learned.tolist() == [[IGNORED, IGNORED, 20, 21, 2], [IGNORED, IGNORED, 22, 2, IGNORED]]


def test_images_and_texts_find_each_other(folder, tmp_path):
    report = run(ContrastRunConfig, rows(folder, "captions", tmp_path / "run", *CLIP, "loop.steps=40", "data.rows=16"))
    assert report["rows"] == {"train": 16, "held_out": 4}
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < 0.3 < 1 < loss["before"]
    model = load(tmp_path / "run" / "model", dtype="float32").model
    theirs = CLIPModel.from_pretrained(tmp_path / "run" / "model")
    torch.testing.assert_close(theirs.logit_scale, model.logit_scale[0])
    assert model.logit_scale.item() != pytest.approx(2.6592, abs=1e-4), "the temperature is learned"


def test_an_end_token_that_clip_checkpoints_cannot_name_is_refused(folder, tmp_path):
    trained = train_tokenizer(["a one"] * 4, TrainTokenizerConfig(vocab_size=300))
    Tokenizer(trained.backend, eos=next(token for token, id in trained.special.items() if id == 2)).save(tmp_path / "t")
    with pytest.raises(ConfigError, match="tokenizer=2: ends texts with an id by which CLIP"):
        run(ContrastRunConfig, rows(folder, "captions", tmp_path / "run", *CLIP, f"tokenizer={tmp_path / 't'}"))


def test_the_loss_of_images_and_texts():
    """Both ways."""

    class Towers:
        logit_scale = torch.tensor([math.log(100)])

        def __init__(self, a, b):
            self.encode_image, self.encode_text = lambda pixels: a, lambda ids, real: b

    from types import SimpleNamespace

    a, b = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    ids, real = torch.arange(10).view(5, 2), torch.ones(5, 2, dtype=torch.bool)
    batch = SimpleNamespace(pixels_BCHW=None, ids_BT=ids, real_BT=real)
    scores = 100 * a @ b.T
    own = torch.arange(5)
    both = [torch.nn.functional.cross_entropy(side, own, reduction="sum") for side in (scores, scores.T)]
    torch.testing.assert_close(image_text(Towers(a, b), batch)[0], sum(both) / 2)
    torch.testing.assert_close(image_text(Towers(a, b), batch)[0], info_nce(a, b, 0.01, two_sided=True)[0])
    batch.ids_BT = torch.zeros_like(ids)  # one text for all: nothing is told apart
    assert image_text(Towers(a, b), batch)[0] == 0


def test_a_temperature_has_a_limit_and_can_come_back_from_it(folder, tmp_path):
    words = rows(folder, "captions", tmp_path / "run", *CLIP, "model.logit_scale_init_value=9", "loop.steps=1")
    run(ContrastRunConfig, words)
    loaded = load(tmp_path / "run" / "model", dtype="float32")
    assert loaded.model.logit_scale.item() == pytest.approx(math.log(100))
    ids = torch.tensor([[number, loaded.tokenizer.eos_id] for number in (9, 10)])
    loaded.model(torch.randn(2, 1, 8, 8), ids).diagonal().sum().backward()
    assert loaded.model.logit_scale.grad.item() != 0


def test_images_get_labels(folder, tmp_path):
    words = rows(folder, "labels", tmp_path / "run", "model.model_type=vit", *flat("model", VIT))
    report = run(ClassifyConfig, [*words, "loop.steps=30"])
    assert report["scores"] == {"accuracy": 1.0, "macro_f1": 1.0, "items": 4}
    assert report["labels"] == {"0": 4, "1": 4, "2": 4, "3": 4}
    theirs = ViTForImageClassification.from_pretrained(tmp_path / "run" / "model")
    assert theirs.config.id2label == {0: "0", 1: "1", 2: "2", 3: "3"}
    assert list(AutoImageProcessor.from_pretrained(tmp_path / "run" / "model").image_mean) == [0.5]
    start = f"start={tmp_path / 'run' / 'model'}"
    words = rows(folder, "labels", tmp_path / "head", start, "train_encoder=false", "loop.steps=1")
    run(ClassifyConfig, [word for word in words if word != "start=null"])
    before, after = (load_model(tmp_path / name / "model", torch.float32, CPU) for name in ("run", "head"))
    assert all(map(torch.equal, before.vit.parameters(), after.vit.parameters()))
    assert not torch.equal(before.classifier.weight, after.classifier.weight)


def test_sounds_get_labels(folder, tmp_path):
    report = run(ClassifyConfig, rows(folder, "notes", tmp_path / "run", *WHISPER, "loop.steps=30"))
    assert report["scores"] == {"accuracy": 1.0, "macro_f1": 1.0, "items": 4}
    assert report["labels"] == {"one": 4, "three": 4, "two": 4, "zero": 4}
    theirs = WhisperForAudioClassification.from_pretrained(tmp_path / "run" / "model").eval()
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path / "run" / "model")
    for number, word in enumerate(WORDS):
        tone, _ = soundfile.read(folder / f"{number}-4.wav", dtype="float32")
        scores = theirs(**extractor(tone, sampling_rate=RATE, return_tensors="pt")).logits
        assert theirs.config.id2label[int(scores.argmax())] == word


def test_the_encoder_of_a_model_that_writes_gets_labels(published, folder, tmp_path):
    words = [word for word in rows(folder, "notes", tmp_path / "run", "loop.steps=1") if word != "start=null"]
    run(ClassifyConfig, [*words, f"start={published}", "train_encoder=false"])
    before, after = (load_model(path, torch.float32, CPU) for path in (published, tmp_path / "run" / "model"))
    assert all(map(torch.equal, before.model.encoder.parameters(), after.encoder.parameters()))
    run(ClassifyConfig, [*words, f"start={published}", "fresh=true", f"out={tmp_path / 'fresh'}"])
    drawn = load_model(tmp_path / "fresh" / "model", torch.float32, CPU)
    assert not torch.equal(drawn.encoder.conv1.weight, after.encoder.conv1.weight)


RECIPES = {
    "seq2seq": lambda path, out: (Seq2SeqConfig, [f"data.source={path}", f"out={out}", *LOOP, *CAPTIONER]),
    "contrast": lambda path, out: (ContrastRunConfig, [f"data.path={path}", f"out={out}", *LOOP, "start=null", *CLIP]),
    "classify": lambda path, out: (
        ClassifyConfig,
        [f"data.path={path}", f"out={out}", *LOOP, "start=null", "model.model_type=vit", *flat("model", VIT)],
    ),
}


def refused(kind, path, out, *more):
    config, words = RECIPES[kind](path, out)
    run(config, [*words, "data.seq_len=16", "loop.steps=1", *more])


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"image": "absent.png"}, r"bad.jsonl:3 image='.*absent.png': no such file \(data.bad=skip\)"),
        ({"image": "broken.png"}, r"bad.jsonl:3 image='.*broken.png': does not decode"),
        ({"image": ""}, r"bad.jsonl:3 image='': must name a file"),
        ({"audio": "0-0.wav"}, r"bad.jsonl:3 image: must name a file"),
        ({"image": "0-0.png", "text": None, "label": None}, r"bad.jsonl:3 (text|label): must be text"),
    ],
    ids=["absent", "broken", "unnamed", "another medium", "unlabelled"],
)
def test_bad_rows_are_named(kind, row, says, folder, tmp_path):
    (folder / "broken.png").write_text("no image")
    good = [{"image": f"{n}-0.png", "text": WORDS[n], "label": n} for n in (0, 1)]
    path = write(folder / "bad.jsonl", [*good, {"text": "x", "label": 1, **row}])
    with pytest.raises(DataError, match=says):
        refused(kind, path, tmp_path / "run")


def test_bad_files_are_left_out_and_counted(folder, tmp_path):
    (folder / "broken.png").write_text("no image")
    good = [{"image": f"{n}-{copy}.png", "text": WORDS[n]} for n in range(4) for copy in range(3)]
    bad = [
        {"image": "broken.png", "text": "x"},
        {"image": "1-0.png", "text": ""},
        {"image": "1-1.png", "text": "x " * 20},
    ]
    path = write(folder / "some.jsonl", [*good, *bad])
    words = [f"data.source={path}", f"out={tmp_path / 'run'}", *LOOP, *CAPTIONER, "data.seq_len=16", "data.bad=skip"]
    words += ["loop.steps=1", "train_tokenizer.vocab_size=300"]
    said = CliRunner().invoke(app, ["seq2seq", *words], catch_exceptions=False).stdout
    assert "3 left out" in said
    skipped = json.loads((tmp_path / "run" / "report.json").read_text())["skipped"]
    assert skipped["counts"] == {"with a file that cannot be used": 1, "with an empty side": 1, "over-long": 1}
    assert skipped["first"]["with an empty side"] == "some.jsonl:14"


@pytest.mark.parametrize(
    ("row", "more", "says"),
    [
        ({"audio": "absent.wav"}, [], r"notes.jsonl:3 audio='.*absent.wav': no such file \(data.bad=skip\)"),
        ({"audio": "0-0.png"}, [], r"notes.jsonl:3 audio='.*0-0.png': does not decode"),
        ({"image": "0-0.png"}, [], r"notes.jsonl:3 audio: must name a file"),
        ({"audio": "0-0.wav", "label": None}, [], r"notes.jsonl:3 label: must be text or a whole number"),
        ({"audio": "long.wav"}, [], r"notes.jsonl:3 audio=.*is longer than the 0.1 seconds that the model hears"),
        ({"audio": "0-0.wav"}, ["model.model_type=vit", *flat("model", VIT)], "puts no labels on a sound .whisper"),
        ({"audio": "0-0.wav"}, ["model.num_mel_bin=8"], "num_mel_bin: unknown key .*num_mel_bins"),
    ],
    ids=["absent", "no sound", "another medium", "unlabelled", "too long", "another family", "unknown key"],
)
def test_bad_sounds_with_labels_are_named(row, more, says, folder, tmp_path):
    soundfile.write(folder / "long.wav", np.zeros(2000), RATE)
    good = [{"audio": f"{n}-0.wav", "label": n} for n in (0, 1)]
    path = write(folder / "notes.jsonl", [*good, {"label": 1, **row}])
    shape = [] if more[:1] == ["model.model_type=vit"] else WHISPER
    with pytest.raises((ConfigError, DataError), match=says):
        run(ClassifyConfig, [f"data.path={path}", f"out={tmp_path / 'run'}", *LOOP, "start=null", *shape, *more])


def test_sounds_that_are_too_long_for_the_model(folder, tmp_path):
    soundfile.write(folder / "long.wav", np.zeros(2000), RATE)
    path = write(folder / "long.jsonl", [{"audio": f"{name}.wav", "text": "x"} for name in ("0-0", "long")])
    words = [f"data.source={path}", f"out={tmp_path / 'run'}", *LOOP, *WHISPER, "data.seq_len=16"]
    with pytest.raises(DataError, match=r"long.jsonl:2 audio=.*is longer than the 0.1 seconds that the model hears"):
        run(Seq2SeqConfig, words)


@pytest.mark.parametrize(
    ("kind", "more", "says"),
    [
        ("seq2seq", ["model.model_type=whisper"], "model='whisper': is no encoder-decoder that reads image.*vision"),
        ("seq2seq", ["data.preprocessor.siz=8"], r"data.preprocessor.siz: unknown key \(.*size"),
        ("seq2seq", ["data.preprocessor.size=6"], "1×8×8|1×6×6"),
        ("seq2seq", ["model.encoder.num_channels=2"], "image_mean and image_std need one number each"),
        ("seq2seq", ["language=de"], "language='de': is no language that the model is told"),
        ("contrast", ["model.model_type=bert"], "does not match an image with a text"),
        (
            "classify",
            ["model.model_type=bert", "model.num_hidden_layers=1", "model.vocab_size=9"],
            "puts no labels on an image",
        ),
    ],
)
def test_settings_that_cannot_be(kind, more, says, folder, tmp_path):
    config, words = RECIPES[kind](
        folder / ("labels-train.jsonl" if kind == "classify" else "captions-train.jsonl"), tmp_path / "run"
    )
    if more[0].startswith("model.model_type"):
        words = [word for word in words if not word.startswith("model.")]
    with pytest.raises((ConfigError, DataError), match=says):
        run(config, [*words, "data.seq_len=16", "loop.steps=1", "train_tokenizer.vocab_size=300", *more])


def test_images_of_many_sizes_are_brought_to_one(folder, tmp_path):
    Image.fromarray(np.zeros((9, 13), np.uint8)).save(folder / "odd.png")
    good = [{"image": f"{n}-0.png", "label": n} for n in range(4)]
    path = write(folder / "sizes.jsonl", [*good, {"image": "odd.png", "label": 1}])
    refused("classify", path, tmp_path / "run")
    with pytest.raises(DataError, match=r"sizes.jsonl:5 image=.*becomes 1×9×13 numbers and others 1×8×8"):
        refused("classify", path, tmp_path / "none", "data.preprocessor.size=null")


def test_a_file_that_changes_while_it_is_used(folder, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    row, media = Described(tmp_path / "one.png", "x", "here:1"), Media(ImageConfig(size=None), FilesConfig(decoded=0))
    assert media.usable([row], Skipped()) == [row]
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match=r"here:1 image=.*one.png.*becomes 3×8×9 numbers and others 3×8×8"):
        media.batch([row])
    (tmp_path / "one.png").unlink()
    with pytest.raises(DataError, match=r"here:1 image=.*no such file"):
        media.batch([row])
    with pytest.raises(DataError, match=r"no file can be used \(1 with a file"):
        Media(ImageConfig(), FilesConfig(bad="skip")).usable([row], Skipped())


@pytest.mark.parametrize(
    "wants",
    [ImageConfig(size=9, crop_size=(7, 8)), ImageConfig(size=(5, 6), resample="bicubic"), ImageConfig(size=None)],
)
def test_how_images_are_wanted_survives_the_file(wants, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(to_hf(wants)))
    assert preprocessor("image", tmp_path) == wants
