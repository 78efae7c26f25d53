"""ViT's hidden states and class scores, ours and transformers'."""

import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification, ViTConfig

from cutaway.core.errors import CheckpointError, CutawayError, DataError
from cutaway.models import vit
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, model_config, save_model

SHAPE = dict(
    image_size=12,
    patch_size=4,
    num_channels=3,
    hidden_size=36,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=50,
)
CASES = {
    "plain": {},
    "one head, one channel": dict(num_attention_heads=1, num_channels=1),
    "no biases": dict(qkv_bias=False),
    "relu, eps": dict(hidden_act="relu", layer_norm_eps=1e-3),
    "left-over pixels": dict(image_size=15),
    "oblong": dict(image_size=(8, 20), patch_size=(4, 5)),
}


def pixels(**over):
    size = {**SHAPE, **over}["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, {**SHAPE, **over}["num_channels"], height, width)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_hidden_states_equal_and_come_back_equal(case, both, tmp_path):
    ours, theirs = both("ViTModel", ViTConfig(**{**SHAPE, **CASES[case]}))
    images = pixels(**CASES[case])
    expected = theirs(images).last_hidden_state
    torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)
    assert ours.context == expected.shape[1]

    save_model(ours, None, tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    torch.testing.assert_close(again(images).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("labels", [2, 5])
@torch.no_grad()
def test_class_scores_equal_and_come_back_equal(labels, both, tmp_path):
    ours, theirs = both("ViTForImageClassification", ViTConfig(**SHAPE, num_labels=labels))
    images = pixels()
    expected = theirs(images).logits
    torch.testing.assert_close(ours.label_logits(ours(images)), expected, atol=1e-5, rtol=1e-5)

    save_model(ours, None, tmp_path / "saved")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(images).logits, expected, atol=1e-5, rtol=1e-5)
    back = load_model(tmp_path / "saved", torch.float32, torch.device("cpu"))
    torch.testing.assert_close(back.label_logits(back(images)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_names_of_classes_are_kept(both, tmp_path):
    names = {0: "cat", 1: "dog", 2: "crane"}
    config = ViTConfig(**SHAPE, id2label=names, label2id={name: id for id, name in names.items()})
    ours, _ = both("ViTForImageClassification", config)
    assert ours.config.labels == ("cat", "dog", "crane")
    save_model(ours, None, tmp_path / "saved")
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "saved").config.id2label == names


@torch.no_grad()
def test_backends_agree(both):
    ours, _ = both("ViTModel", ViTConfig(**SHAPE))
    images = pixels()
    expected = ours(images)
    for backend in ("reference", "tiled"):
        for block in ours.blocks:
            block.attention["attention"].attend.backend = backend
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)


def test_a_fresh_model_scores_its_classes():
    model = make_model({"model_type": "vit", **SHAPE, "labels": list("abcd")})
    assert model.label_logits(model(pixels())).shape == (2, 4)


@pytest.mark.parametrize("shape", [(2, 3, 12, 16), (2, 1, 12, 12), (2, 3, 8, 8)])
def test_images_of_another_size_are_refused(shape):
    model = vit.build(vit.ViTConfig(**SHAPE))
    with pytest.raises(DataError, match=r"pixels=.*must be 3×12×12"):
        model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (dict(num_attention_heads=5), "hidden_size 36 is not a multiple of num_attention_heads 5"),
        (dict(patch_size=16), "patch_size 16 is larger than image_size 12"),
        (dict(hidden_act="tanh"), "hidden_act"),
    ],
)
def test_shapes_that_cannot_be(over, message):
    with pytest.raises(CutawayError, match=message):
        make_model({"model_type": "vit", **SHAPE, **over})


def test_an_activation_that_is_not_here():
    with pytest.raises(CheckpointError, match=r"hidden_act='mish': unsupported .*gelu"):
        model_config({"model_type": "vit", "hidden_act": "mish"})
