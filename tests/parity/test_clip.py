"""CLIP's embeddings and scores, ours and transformers'."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from cutaway.core.errors import CheckpointError, ContextLengthError, CutawayError, DataError
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, model_config, save_model

EOS = 88
TEXT = dict(
    vocab_size=89,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=11,
    bos_token_id=1,
    eos_token_id=EOS,
    pad_token_id=0,
)
VISION = dict(
    image_size=12,
    patch_size=4,
    hidden_size=30,
    num_hidden_layers=3,
    num_attention_heads=5,
    intermediate_size=34,
)
CASES = {
    "plain": ({}, {}),
    "gelu": (dict(hidden_act="gelu"), dict(hidden_act="gelu")),
    "gelu in the image tower only": ({}, dict(hidden_act="gelu", layer_norm_eps=1e-3)),
    "one head, one channel, pixels left over": (
        dict(num_attention_heads=1),
        dict(num_attention_heads=1, num_channels=1, image_size=15),
    ),
    "end token by the old rule": (dict(eos_token_id=2), {}),
    "padded with the end token": (dict(pad_token_id=EOS), {}),
}


def configuration(text=(), vision=()):
    return CLIPConfig(text_config={**TEXT, **dict(text)}, vision_config={**VISION, **dict(vision)}, projection_dim=14)


def inputs(config):
    text, vision = config.text_config, config.vision_config
    pixels = torch.randn(3, vision.num_channels, vision.image_size, vision.image_size)
    lengths = torch.tensor([9, 4, 6, 7])
    ids = torch.randint(3, EOS, (4, 9))
    real = torch.arange(9) < lengths[:, None]
    ids[~real] = text.pad_token_id
    ids[torch.arange(4), lengths - 1] = EOS
    return pixels, ids, real


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_embeddings_and_scores_equal_and_come_back_equal(case, both, tmp_path):
    config = configuration(*CASES[case])
    ours, theirs = both("CLIPModel", config)
    pixels, ids, real = inputs(config)
    expected = theirs(input_ids=ids, pixel_values=pixels, attention_mask=real.long())
    close = dict(atol=1e-5, rtol=1e-4)
    texts, images = ours.encode_text(ids, real), ours.encode_image(pixels)
    torch.testing.assert_close(texts, expected.text_embeds, **close)
    torch.testing.assert_close(images, expected.image_embeds, **close)
    torch.testing.assert_close(ours.logits(images, texts), expected.logits_per_image, **close)
    torch.testing.assert_close(ours(pixels, ids).T, expected.logits_per_text, **close)  # right padding needs no mask

    hidden = theirs.text_model(ids, attention_mask=real.long()).last_hidden_state
    torch.testing.assert_close(ours.text_model(ids, real)[real], hidden[real], atol=1e-4, rtol=1e-4)

    save_model(ours, None, tmp_path / "saved")
    back = CLIPModel.from_pretrained(tmp_path / "saved")(input_ids=ids, pixel_values=pixels)
    torch.testing.assert_close(back.logits_per_image, expected.logits_per_image, **close)


@torch.no_grad()
def test_padding_on_the_left_is_masked(both):
    config = configuration()
    ours, theirs = both("CLIPModel", config)
    _, ids, real = inputs(config)
    ids, real = ids.flip(1), real.flip(1)
    ids[:, -1] = EOS
    for row in range(4):
        ids[row, :-1][ids[row, :-1] == EOS] = 5
    expected = theirs.text_model(ids, attention_mask=real.long()).pooler_output
    found = ours.text_model.pool(ours.text_model(ids, real), ids)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_old_folders_are_read(both, tmp_path):
    """Early ones describe the towers in `…_config_dict` and store position numbers."""
    config = configuration()
    ours, theirs = both("CLIPModel", config)
    theirs.save_pretrained(tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    values = json.loads(path.read_text())
    for tower in ("text_config", "vision_config"):
        values[f"{tower}_dict"] = values[tower]
        values[tower] = {}
    path.write_text(json.dumps(values))
    weights = tmp_path / "old" / "model.safetensors"
    tensors = load_file(weights)
    tensors["text_model.embeddings.position_ids"] = torch.arange(11)[None]
    save_file(tensors, weights)
    pixels, ids, _ = inputs(config)
    old = load_model(tmp_path / "old", torch.float32, torch.device("cpu"))
    torch.testing.assert_close(old(pixels, ids), ours(pixels, ids))


def test_a_fresh_model_is_undecided_and_takes_gradients():
    torch.manual_seed(0)
    shape = dict(text_config={k: v for k, v in TEXT.items() if k not in ("bos_token_id", "pad_token_id")})
    model = make_model({"model_type": "clip", **shape, "vision_config": VISION, "projection_dim": 6})
    pixels, ids, _ = inputs(configuration())
    scores = model(pixels, ids)
    assert scores.shape == (3, 4)
    torch.testing.assert_close(model.encode_image(pixels).norm(dim=-1), torch.ones(3))
    scores.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert len(model.blocks) == 5
    assert model.context == 11


def test_bad_texts_and_images(both):
    config = configuration()
    ours, _ = both("CLIPModel", config)
    pixels, ids, _ = inputs(config)
    ids[2] = 7
    with pytest.raises(DataError, match=r"text\[2\]: the text has no end token \(end it with id 88\)"):
        ours.encode_text(ids)
    with pytest.raises(ContextLengthError, match=r"text=12: too many tokens \(at most 11\)"):
        ours.encode_text(torch.zeros(1, 12, dtype=torch.int64))
    with pytest.raises(DataError, match="must be 3×12×12"):
        ours.encode_image(pixels[..., :8])


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        (dict(vision_config=dict(patch_size=300)), "patch_size 300 is larger than image_size 224"),
        (dict(text_config=dict(num_attention_heads=7)), "hidden_size 512 is not a multiple of num_attention_heads 7"),
        (dict(text_config=dict(vocab=7)), r"text_config.vocab: unknown key \(did you mean vocab_size"),
    ],
)
def test_shapes_that_cannot_be(tower, message):
    with pytest.raises(CutawayError, match=message):
        make_model({"model_type": "clip", **tower})


def test_an_activation_that_is_not_here():
    with pytest.raises(CheckpointError, match="hidden_act='mish': unsupported"):
        model_config({"model_type": "clip", "vision_config": {"hidden_act": "mish"}})
