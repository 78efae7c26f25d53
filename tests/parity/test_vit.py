"""What ViT keeps beside its scores: names of classes, backends; and images and shapes that cannot be."""

import pytest
import torch
from transformers import AutoConfig, ViTConfig

from cutaway.core.errors import CheckpointError, CutawayError, DataError
from cutaway.models import vit
from cutaway.models.families import make_model
from cutaway.models.huggingface import model_config, save_model
from tests.parity.vit import SHAPE, pixels


@torch.no_grad()
def test_names_of_classes_are_kept(both, tmp_path):
    names = {0: "cat", 1: "dog", 2: "crane"}
    config = ViTConfig(**SHAPE, id2label=names, label2id={name: id for id, name in names.items()})
    ours, _ = both("ViTForImageClassification", config)
    assert ours.config.labels == ("cat", "dog", "crane")
    save_model(ours, None, tmp_path / "saved")
    assert AutoConfig.from_pretrained(tmp_path / "saved").id2label == names


@torch.no_grad()
def test_backends_agree(both):
    ours, theirs = both("ViTModel", ViTConfig(**SHAPE))
    images = pixels(theirs.config)
    expected = ours(images)
    assert ours.context == expected.shape[1]
    for backend in ("reference", "tiled"):
        for block in ours.blocks:
            block.attention["attention"].attend.backend = backend
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)


def test_a_fresh_model_scores_its_classes():
    model = make_model({"model_type": "vit", **SHAPE, "labels": list("abcd")})
    assert model.label_logits(model(pixels(model.config))).shape == (2, 4)


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
