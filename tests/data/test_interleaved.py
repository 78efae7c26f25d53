"""Rows of interleaved parts: what they become, what is refused or left out, packing, order and resumption."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cutaway.core.errors import DataError, NothingSupervisedError
from cutaway.data.audio import log_mel
from cutaway.data.interleaved import InterleavedConfig, open_interleaved
from cutaway.data.parts import encode_prompt, encode_row, mel_config, read_rows
from cutaway.loss.language_modelling import IGNORED
from cutaway.nn.media import TOKENS, MediaConfig, stack_frames
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

MEDIA = MediaConfig(
    image_size=4, patch_size=2, num_channels=1, max_frames=3, sampling_rate=4000, mel_bands=5, n_fft=64, hop_length=40
)
RATE = MEDIA.sampling_rate


@pytest.fixture(scope="module")
def tokenizer():
    config = TrainTokenizerConfig(vocab_size=300, extra=tuple(TOKENS.values()))
    return train_tokenizer(["left right high low"] * 9, config)


@pytest.fixture(scope="module")
def ids(tokenizer):
    return {kind: tokenizer.special[token] for kind, token in TOKENS.items()}


@pytest.fixture
def folder(tmp_path):
    """Two images, two tones, a video, and files that are none."""
    for name, values in (("left", [[255, 255, 0, 0]] * 4), ("right", [[0, 0, 255, 255]] * 4)):
        Image.fromarray(np.array(values, np.uint8)).save(tmp_path / f"{name}.png")
    for name, hertz in (("low", 200), ("high", 900)):
        soundfile.write(tmp_path / f"{name}.wav", np.sin(np.arange(1200) * 2 * np.pi * hertz / RATE) * 0.5, RATE)
    (tmp_path / "walk").mkdir()
    for number, name in enumerate(("left", "right")):
        shutil.copy(tmp_path / f"{name}.png", tmp_path / "walk" / f"{number}.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "cut.png").write_bytes((tmp_path / "left.png").read_bytes()[:40])
    soundfile.write(tmp_path / "click.wav", np.zeros(20), RATE)
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def write(folder, *rows):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


def one(folder, *parts):
    (row,) = read_rows(write(folder, list(parts)))
    return row


SAY = {"text": " left", "learn": True}


def test_a_row_in_order(folder, tokenizer, ids):
    row = one(folder, {"text": "what"}, {"image": "left.png"}, {"audio": "low.wav"}, {"video": "walk"}, SAY)
    piece = encode_row(row, tokenizer, MEDIA, ids)
    what, left = tokenizer.encode("what"), tokenizer.encode(" left")
    frames = -(-30 // MEDIA.stack)
    media = [*[ids["image"]] * 4, *[ids["audio"]] * frames, *[ids["video"]] * 8]
    assert piece.ids.tolist() == [*what, *media, *left, tokenizer.eos_id]
    assert piece.learned.tolist() == [False] * (len(what) + len(media)) + [True] * (len(left) + 1)
    at = len(what)
    assert piece.features_TF.shape == (len(piece.ids), MEDIA.width) == (len(piece.ids), 20)
    assert (piece.features_TF[:at] == 0).all()
    assert piece.features_TF[at : at + 4, :4].tolist() == [[1] * 4, [-1] * 4, [1] * 4, [-1] * 4]
    samples = torch.from_numpy(soundfile.read(folder / "low.wav", dtype="float32")[0])
    expected = stack_frames(log_mel(samples[None], mel_config(MEDIA))[0], MEDIA.stack)
    torch.testing.assert_close(piece.features_TF[at + 4 : at + 4 + frames], expected)
    assert piece.places_T[at:].tolist() == [*range(4), *[0] * frames, *range(8), *[0] * (len(left) + 1)]
    video = piece.features_TF[at + 4 + frames :, :4][:8]
    assert video[:4, 0].tolist() == [1, -1, 1, -1]
    assert video[4:, 0].tolist() == [-1, 1, -1, 1]


def test_a_prompt_is_the_row_without_its_end(folder, tokenizer, ids):
    row = one(folder, {"image": "left.png"}, {"text": "is"})
    prompt, whole = (encode(row, tokenizer, MEDIA, ids) for encode in (encode_prompt, encode_row))
    assert prompt.ids.tolist() == whole.ids[:-1].tolist()


def test_without_a_mark_every_text_is_learned(folder, tokenizer, ids):
    plain = encode_row(one(folder, {"text": "low"}, {"image": "left.png"}), tokenizer, MEDIA, ids)
    assert plain.learned.sum() == len(tokenizer.encode("low"))
    question = encode_row(one(folder, {"text": "low", "learn": False}, SAY), tokenizer, MEDIA, ids)
    assert question.learned.sum() == len(tokenizer.encode(" left")) + 1


def test_what_a_user_writes_is_no_medium(folder, tokenizer, ids):
    piece = encode_row(one(folder, {"text": "<|image|>"}), tokenizer, MEDIA, ids)
    assert ids["image"] not in piece.ids


def test_a_video_is_a_folder_or_a_list(folder, tokenizer, ids):
    whole, listed = (
        encode_row(one(folder, {"video": video}, SAY), tokenizer, MEDIA, ids)
        for video in ("walk", ["left.png", "right.png"])
    )
    assert torch.equal(whole.features_TF, listed.features_TF)


def test_sizes_and_rates_of_files_do_not_matter(folder, tokenizer, ids):
    Image.open(folder / "left.png").resize((16, 16), Image.Resampling.NEAREST).convert("RGBA").save(folder / "big.png")
    small, big = (encode_row(one(folder, {"image": f}, SAY), tokenizer, MEDIA, ids) for f in ("left.png", "big.png"))
    torch.testing.assert_close(small.features_TF, big.features_TF, atol=0.3, rtol=0)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "x"}, r"rows.jsonl:1=.*must be a list of parts"),
        (["x"], r"rows.jsonl:1\[0\]='x': must be one part"),
        ([{"image": "left.png", "text": "x"}], "must be one part"),
        ([SAY, {"imge": "left.png"}], r"rows.jsonl:1\[1\].*must be one part"),
        ([{"text": 3}], r"rows.jsonl:1\[0\] text=3: must be text"),
        ([{"text": "x", "lern": True}], "unknown key.*did you mean learn"),
        ([{"text": "x", "learn": 1}], r"learn=1: must be true or false"),
        ([{"image": "left.png", "learn": True}], "learn='image': only text can be learned"),
        ([{"image": ["left.png"]}], r"image=\['left.png'\]: must name a file"),
        ([{"image": ""}], "must name a file"),
        ([{"video": []}], r"video=\[\]: must name a file"),
        ([{"video": "empty"}], "empty': holds no frame"),
        ([{"video": "nowhere"}], "nowhere': holds no frame"),
    ],
)
def test_misshapen_rows_are_located(folder, row, says):
    with pytest.raises(DataError, match=says):
        list(read_rows(write(folder, row)))


BAD = {
    "image that cannot": ({"image": "text.png"}, r"rows.jsonl:2 image='.*text.png': does not decode"),
    "image that": ({"image": "cut.png"}, "cut.png': does not decode"),
    "image": ({"image": "nowhere.png"}, "nowhere.png': no such file"),
    "audio that cannot": ({"audio": "text.wav"}, "rows.jsonl:2 audio='.*text.wav': does not decode"),
    "audio that": ({"audio": "nothing.wav"}, "nothing.wav': is empty"),
    "audio": ({"audio": "click.wav"}, "rows.jsonl:2 audio='20 samples': is too short"),
    "video that": ({"video": ["left.png", "text.png"]}, "rows.jsonl:2 video='.*text.png': does not decode"),
    "video": ({"video": ["left.png"] * 4}, "rows.jsonl:2 video=4: has too many frames.*at most 3"),
}


def opened(folder, tokenizer, ids, *rows, seed=0, **more):
    config = InterleavedConfig(path=write(folder, *rows), **{"seq_len": 48, "rows": 2, **more})
    return open_interleaved(config, tokenizer, MEDIA, ids, seed)


GOOD = [[{"image": "left.png"}, SAY], [{"audio": "low.wav"}, {"text": " low"}], [{"text": "high low"}]]


@pytest.mark.parametrize("kind", BAD)
def test_media_that_cannot_be_used_are_refused_or_counted(folder, tokenizer, ids, kind):
    part, says = BAD[kind]
    rows = [GOOD[0], [part, SAY], *GOOD[1:]]
    with pytest.raises(DataError, match=says):
        opened(folder, tokenizer, ids, *rows)
    corpus = opened(folder, tokenizer, ids, *rows, bad="skip")
    (why,) = corpus.skipped["counts"]
    assert why == f"with {kind.split()[0]} that cannot be used"
    assert corpus.skipped["counts"][why] == 1
    assert "rows.jsonl:2" in corpus.skipped["first"][why]
    assert len(corpus.train.store) + len(corpus.held_out.store) == 3


@pytest.mark.parametrize("row", [[], [{"text": "  "}]])
def test_empty_rows(folder, tokenizer, ids, row):
    with pytest.raises(DataError, match=r"rows.jsonl:4: is empty"):
        opened(folder, tokenizer, ids, *GOOD, row)
    skipped = opened(folder, tokenizer, ids, *GOOD, row, bad="skip").skipped
    assert skipped["counts"] == {"empty": 1}


def test_over_long_rows(folder, tokenizer, ids):
    long = [{"video": "walk"}, {"audio": "low.wav"}, {"text": "high low " * 9, "learn": True}]
    with pytest.raises(DataError, match=r"rows.jsonl:4: takes \d+ positions and data.seq_len is 20"):
        opened(folder, tokenizer, ids, *GOOD, long, seq_len=20)
    skipped = opened(folder, tokenizer, ids, *GOOD, long, seq_len=20, over_long="skip").skipped
    assert skipped == {"counts": {"over-long": 1}, "first": {"over-long": "rows.jsonl:4"}}


def test_nothing_to_learn(folder, tokenizer, ids):
    mute = [{"image": "left.png"}]
    assert opened(folder, tokenizer, ids, *GOOD, mute).skipped["counts"] == {"with nothing to learn": 1}
    with pytest.raises(NothingSupervisedError, match="1 with nothing to learn"):
        opened(folder, tokenizer, ids, mute)


def test_a_file_that_changes_meanwhile_is_named(folder, tokenizer, ids):
    corpus = opened(folder, tokenizer, ids, *GOOD, decoded=0)
    soundfile.write(folder / "low.wav", np.zeros(4000), RATE)
    with pytest.raises(DataError, match=r"rows.jsonl:2: changed while it was used"):
        for _ in range(4):
            next(corpus.train), list(corpus.held_out.once())


def test_rows_about_one_file_are_on_one_side(folder, tokenizer, ids):
    for number in range(30):
        shutil.copy(folder / "left.png", folder / f"{number}.png")
    rows = [[{"image": f"{n}.png"}, {"text": f" {ask}"}] for n in range(30) for ask in ("left", "high")]
    corpus = opened(folder, tokenizer, ids, *rows, held_out_share=0.3)
    keys = [{row.key for row in side.store.rows} for side in (corpus.train, corpus.held_out)]
    assert keys[0]
    assert keys[1]
    assert not keys[0] & keys[1]


MANY = [
    [{kind: file}, {"text": f" {n}", "learn": True}]
    for n in range(12)
    for kind, file in (("image", "left.png"), ("audio", "low.wav"), ("video", "walk"))
]


def test_packed_rows_hold_every_piece_once(folder, tokenizer, ids):
    corpus = opened(folder, tokenizer, ids, *MANY, held_out=write_held(folder), rows=3)
    plain = opened(folder, tokenizer, ids, *MANY, held_out=write_held(folder), rows=3, packing=False)
    packed, single = (list(stream.once()) for stream in (corpus.train, plain.train))
    assert sum(len(batch.ids_BT) for batch in packed) < sum(len(batch.ids_BT) for batch in single)
    found, expected = (
        sorted(fragment for batch in batches for fragment in pieces(batch)) for batches in (packed, single)
    )
    assert found == expected
    assert len(found) == len(MANY)


def write_held(folder):
    (folder / "held.jsonl").write_text(json.dumps(GOOD[0]) + "\n")
    return folder / "held.jsonl"


def pieces(batch):
    """Every piece of a batch: ids, what is learned, numbers of media and their places."""
    for row in range(len(batch.ids_BT)):
        for segment in range(1, int(batch.segments_BT[row].max()) + 1):
            own = batch.segments_BT[row] == segment
            parts = (getattr(batch, name)[row][own] for name in ("ids_BT", "targets_BT", "places_BT", "positions_BT"))
            yield *(tuple(part.tolist()) for part in parts), batch.features_BTF[row][own].sum().item()


def test_padding_holds_nothing(folder, tokenizer, ids):
    batch = next(iter(opened(folder, tokenizer, ids, *MANY).train))
    padding = batch.segments_BT == 0
    assert padding.any()
    assert (batch.features_BTF[padding] == 0).all()
    assert (batch.targets_BT[padding] == IGNORED).all()
    assert batch.n_tokens == int((~padding).sum())


@pytest.mark.parametrize("packing", [True, False])
def test_the_order_is_the_seeds_and_resumes(folder, tokenizer, ids, packing):
    def stream(seed=0, decoded=100):
        return opened(folder, tokenizer, ids, *MANY, seed=seed, packing=packing, decoded=decoded).train

    first, again, other = stream(), stream(decoded=0), stream(seed=1)
    total = 2 * first.batches_per_epoch + 1
    batches = [next(first) for _ in range(total)]
    assert all(same(a, next(again)) for a in batches)
    assert not all(same(a, next(other)) for a in batches)
    late = stream()
    for _ in range(5):
        next(late)
    resumed = stream()
    resumed.restore(json.loads(json.dumps(late.state())))
    assert all(same(a, next(resumed)) for a in batches[5:])


def same(a, b):
    names = ("ids_BT", "targets_BT", "features_BTF", "places_BT", "segments_BT")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
