"""The multimodal decoder: what its positions are made of, what a position sees, and its files."""

import json

import pytest
import torch

from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.llama_config import LlamaConfig
from cutaway.nn.media import MediaConfig, stack_frames

MEDIA = {"image_size": (4, 6), "patch_size": 2, "num_channels": 1, "max_frames": 3, "mel_bands": 3, "stack": 2}
TEXT, IMAGE, AUDIO, VIDEO = 9, 1, 2, 3


def make(**more):
    shape = dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, initializer_range=0.3
    )
    shape |= dict(num_key_value_heads=1, vocab_size=40, max_position_embeddings=64, media=MEDIA)
    torch.manual_seed(0)
    return make_model({"model_type": "omni", **shape, **more}).eval()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture
def row():
    """A text, an image, a sound, a text, a video of two frames, a text."""
    ids = [TEXT, *[IMAGE] * 6, *[AUDIO] * 3, TEXT, *[VIDEO] * 12, TEXT]
    places = [0, *range(6), 0, 0, 0, 0, *range(12), 0]
    draw = torch.Generator().manual_seed(1)
    return {
        "ids_BT": torch.tensor([ids]),
        "features_BTF": torch.randn(1, len(ids), MediaConfig(**MEDIA).width, generator=draw),
        "places_BT": torch.tensor([places]),
    }


def run(model, row, **more):
    with torch.inference_mode():
        return model(row["ids_BT"], features_BTF=row["features_BTF"], places_BT=row["places_BT"], **more)


def embedded(model, row):
    """What the first block gets."""
    seen = []
    handle = model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    run(model, row)
    handle.remove()
    return seen[0]


def test_shapes():
    media = MediaConfig(**MEDIA)
    assert (media.patches, media.patch_width, media.sound_width, media.width) == (6, 4, 6, 6)
    model = make()
    assert model.senses.patch.weight.shape == (24, 4)
    assert model.senses.patch_position.weight.shape == (6, 24)
    assert model.senses.frame_position.weight.shape == (3, 24)


def test_positions_are_made_by_their_definition(model, row):
    x_TD, senses = embedded(model, row)[0], model.senses
    ids, features = row["ids_BT"][0], row["features_BTF"][0]
    words = model.embedding(ids)
    torch.testing.assert_close(x_TD[ids == TEXT], words[ids == TEXT])
    torch.testing.assert_close(x_TD[7], words[7] + features[7] @ senses.sound.weight.T + senses.sound.bias)
    for t, patch, frame in ((1, 0, 0), (6, 5, 0), (11, 0, 0), (19, 2, 1)):
        expected = features[t, :4] @ senses.patch.weight.T + senses.patch.bias
        expected = expected + senses.patch_position.weight[patch] + senses.frame_position.weight[frame]
        torch.testing.assert_close(x_TD[t], words[t] + expected)


def test_numbers_where_no_medium_stands_are_not_read(model, row):
    changed = {**row, "features_BTF": row["features_BTF"].clone()}
    changed["features_BTF"][row["ids_BT"] == TEXT] = 100.0
    changed["features_BTF"][row["ids_BT"] == IMAGE, 4:] = 100.0  # a patch has four numbers
    assert torch.equal(run(model, row), run(model, changed))


def test_the_future_is_not_seen(model, row):
    before = run(model, row)
    for t in (1, 8, 15, 23):
        changed = {**row, "features_BTF": row["features_BTF"].clone(), "ids_BT": row["ids_BT"].clone()}
        changed["features_BTF"][:, t:] += 1
        changed["ids_BT"][:, 23] = TEXT + 1
        after = run(model, changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.allclose(after[:, t:], before[:, t:])


def test_every_medium_is_seen(model, row):
    last = run(model, row)[:, -1]
    for kind in (IMAGE, AUDIO, VIDEO):
        changed = {**row, "features_BTF": row["features_BTF"].clone()}
        changed["features_BTF"][row["ids_BT"] == kind] += 1
        assert not torch.allclose(run(model, changed)[:, -1], last, atol=1e-3)


@pytest.mark.parametrize("cuts", [(12,), (3, 9, 20), tuple(range(1, 24))])
def test_in_parts_with_a_cache_it_is_the_same(model, row, cuts):
    cache = model.new_cache(1, 32)
    parts = []
    for start, stop in zip((0, *cuts), (*cuts, 24), strict=True):
        parts.append(run(model, {name: value[:, start:stop] for name, value in row.items()}, cache=cache))
    torch.testing.assert_close(torch.cat(parts, 1), run(model, row), rtol=1e-4, atol=1e-5)


def test_without_media_it_is_the_text_decoder():
    model = make()
    ids_BT = torch.randint(10, 40, (2, 7))
    shape = model.config.model_dump(include=set(LlamaConfig.model_fields))
    plain = make_model({**shape, "model_type": "llama"}).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("senses.")})
    assert torch.equal(model(ids_BT), plain(ids_BT))


def test_files(tmp_path, row):
    model = make(sliding_window=5, rope_scaling={"rope_type": "linear", "factor": 2.0}, tie_word_embeddings=False)
    save_model(model, None, tmp_path / "m")
    again = load_model(tmp_path / "m", torch.float32, torch.device("cpu"))
    assert again.config == model.config
    assert torch.equal(run(again, row), run(model, row))
    half = load_model(tmp_path / "m", torch.bfloat16, torch.device("cpu"))
    assert run(half, row).dtype == torch.bfloat16
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**values, "media": {"patch_size": 99}}))
    with pytest.raises(CheckpointError, match="patch_size 99 is larger than image_size 32"):
        load_model(tmp_path / "m", torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"media": {"patch_size": 0}}, "patch_size must be above 0"),
        ({"media": {"num_channels": 4}}, "num_channels"),
        ({"media": {"pach_size": 4}}, "did you mean patch_size"),
        ({"image_token_id": 2}, "token ids of their own"),
        ({"video_token_id": 40}, "below vocab_size 40"),
    ],
)
def test_shapes_that_cannot_be(more, says):
    with pytest.raises(ConfigError, match=says):
        make(**more)


def test_frames_are_stacked_and_filled_up_with_silence():
    mel_MT = torch.arange(10.0).view(2, 5) - 3
    stacked = stack_frames(mel_MT, 2)
    assert stacked.tolist() == [[-3, 2, -2, 3], [-1, 4, 0, 5], [1, 6, -3, -3]]
