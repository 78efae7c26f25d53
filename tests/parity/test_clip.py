"""What CLIP keeps beside its scores: padding on either side, old folders; and texts, images and shapes that cannot be."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core.errors import CheckpointError, ContextLengthError, CutawayError, DataError
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, model_config
from tests.parity.clip import EOS, TEXT, VISION, clip, inputs


@torch.no_grad()
def test_padding_on_the_right_needs_no_mask(both):
    ours, theirs = both(*clip())
    given = inputs(theirs)
    expected = ours.logits(ours.encode_image(given.pixels), ours.encode_text(given.ids, given.real))
    torch.testing.assert_close(ours(given.pixels, given.ids), expected)


@torch.no_grad()
def test_padding_on_the_left_is_masked(both):
    ours, theirs = both(*clip())
    given = inputs(theirs)
    ids, real = given.ids.flip(1), given.real.flip(1)
    ids[:, -1] = EOS
    for row in range(4):
        ids[row, :-1][ids[row, :-1] == EOS] = 5
    expected = theirs.text_model(ids, attention_mask=real.long()).pooler_output
    found = ours.text_model.pool(ours.text_model(ids, real), ids)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_old_folders_are_read(both, tmp_path):
    """Early ones describe the towers in `…_config_dict` and store position numbers."""
    ours, theirs = both(*clip())
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
    given = inputs(theirs)
    pixels, ids = given.pixels, given.ids
    old = load_model(tmp_path / "old", torch.float32, torch.device("cpu"))
    torch.testing.assert_close(old(pixels, ids), ours(pixels, ids))


def test_a_fresh_model_is_undecided_and_takes_gradients():
    torch.manual_seed(0)
    shape = dict(text_config={k: v for k, v in TEXT.items() if k not in ("bos_token_id", "pad_token_id")})
    model = make_model({"model_type": "clip", **shape, "vision_config": VISION, "projection_dim": 6})
    pixels, ids = torch.randn(3, 3, 12, 12), torch.full((4, 9), EOS)
    scores = model(pixels, ids)
    assert scores.shape == (3, 4)
    torch.testing.assert_close(model.encode_image(pixels).norm(dim=-1), torch.ones(3))
    scores.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert len(model.blocks) == 5
    assert model.context == 11


def test_bad_texts_and_images(both):
    ours, theirs = both(*clip())
    given = inputs(theirs)
    pixels, ids = given.pixels, given.ids
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
