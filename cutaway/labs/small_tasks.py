"""One small task for each kind of model: how batches are drawn, what is learned by, and which answers are right.

A `Kind` is all that differs between them.

B rows, T positions, L answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cutaway.data.batch import Batch, Rows
from cutaway.data.pairs import PairBatch
from cutaway.labs.small_inputs import (
    END,
    MEL,
    NOTES,
    START,
    Seen,
    T,
    V,
    captioned,
    gaps,
    images,
    melodies,
    texts,
    translations,
)
from cutaway.loss.language_modelling import IGNORED
from cutaway.train.objectives import Metrics, Objective, causal_lm, masked_lm, seq2seq_lm

Draw = Callable[[int, torch.Generator, Tensor], Rows]


@dataclass(frozen=True)
class Kind:
    """A kind of model, and its task.

    Args:
        shape: for `make_model`.
        draw: (rows, generator, new names of the V answers) → a batch.
        objective: what it learns by.
        right: (model, batch) → for each answer whether the likeliest is right.
        chance: the score of guessing.
        answers: how many can get new names; 0: none, since answers are inputs too.
    """

    shape: dict[str, Any]
    draw: Draw
    objective: Objective
    right: Callable[[Any, Any], Tensor]
    chance: float
    answers: int = 0


def label_loss(model: Any, batch: Seen) -> tuple[Tensor, int, Metrics]:
    """Cross-entropy of an image's class."""
    label_B = batch.answer_BL[:, 0]
    return cross_entropy(model.label_logits(model(batch.input_B)), label_B, reduction="sum"), len(label_B), {}


def pair_loss(model: Any, batch: Seen) -> tuple[Tensor, int, Metrics]:
    """Each image finds its caption among those of the batch."""
    captions, own_B = batch.answer_BL.unique(dim=0, return_inverse=True)
    scores_BC = model.logits(model.encode_image(batch.input_B), model.encode_text(captions))
    return cross_entropy(scores_BC, own_B, reduction="sum"), len(own_B), {}


def transcript_loss(model: Any, batch: Seen) -> tuple[Tensor, int, Metrics]:
    """Cross-entropy of what was heard, token after token."""
    logits_BLV = written(model, batch)
    loss = cross_entropy(logits_BLV.flatten(0, 1), batch.answer_BL.flatten(), reduction="sum")
    return loss, batch.answer_BL.numel(), {}


def written(model: Any, batch: Seen) -> Tensor:
    start_B1 = torch.full_like(batch.answer_BL[:, :1], START)
    read_BL = torch.cat([start_B1, batch.answer_BL[:, :-1]], 1)
    return model.logits(model(read_BL, model.encode(batch.input_B)))


def right_next(model: Any, batch: Batch) -> Tensor:
    """Of a decoder, where the next number is known."""
    known = batch.targets_BT != IGNORED
    return (model.logits(model(batch.ids_BT)).argmax(-1) == batch.targets_BT)[known]


def right_hidden(model: Any, batch: Batch) -> Tensor:
    """Of an encoder, behind the mask."""
    hidden = batch.targets_BT != IGNORED
    said = model.logits(model(batch.ids_BT, mask_BTS=torch.ones(1, T, T, dtype=torch.bool))).argmax(-1)
    return (said == batch.targets_BT)[hidden]


def right_translation(model: Any, batch: PairBatch) -> Tensor:
    said = model.logits(model(batch.target_BT, model.encode(batch.source_BS))).argmax(-1)
    return said == batch.targets_BT


def right_caption(model: Any, batch: Seen) -> Tensor:
    """Whether the nearest of the ten captions is the image's."""
    captions, own_B = batch.answer_BL.unique(dim=0, return_inverse=True)
    return model.logits(model.encode_image(batch.input_B), model.encode_text(captions)).argmax(1) == own_B


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 8, "patch_size": 2, "num_channels": 1, "initializer_range": 0.1}
WRITER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
KINDS = {
    "language, decoder": Kind(
        {"model_type": "llama", "vocab_size": V, "num_key_value_heads": 2, "initializer_range": 0.1, **SMALL},
        texts,
        causal_lm,
        right_next,
        1 / V,
    ),
    "language, encoder": Kind(
        {
            "model_type": "bert",
            "head": "masked",
            "hidden_dropout_prob": 0.0,
            "vocab_size": V + 1,
            "max_position_embeddings": T,
            "initializer_range": 0.1,
            **SMALL,
        },
        gaps,
        masked_lm,
        right_hidden,
        1 / V,
    ),
    "language, encoder-decoder": Kind(
        {
            **{
                "model_type": "transformer",
                "vocab_size": V + 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "norm": "pre",
            },
            **{
                "num_encoder_layers": 1,
                "num_decoder_layers": 1,
                "num_attention_heads": 2,
                "max_position_embeddings": T,
            },
        },
        translations,
        seq2seq_lm,
        right_translation,
        1 / V,
        answers=V,
    ),
    "vision": Kind(
        {"model_type": "vit", "labels": tuple(map(str, range(V))), **VISION},
        images,
        label_loss,
        lambda model, batch: model.label_logits(model(batch.input_B)).argmax(-1) == batch.answer_BL[:, 0],
        1 / 10,
        answers=10,
    ),
    "audio": Kind(
        {
            **{
                "model_type": "whisper",
                "vocab_size": V + 2,
                "num_mel_bins": MEL.feature_size,
                "max_source_positions": 8,
            },
            **{"max_target_positions": 8, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.1, **WRITER},
            **{"pad_token_id": END, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START},
        },
        melodies,
        transcript_loss,
        lambda model, batch: written(model, batch).argmax(-1) == batch.answer_BL,
        1 / NOTES,
        answers=NOTES,
    ),
    "image and text": Kind(
        {
            "model_type": "clip",
            "text_config": {
                **SMALL,
                "initializer_range": 0.1,
                "vocab_size": V + 2,
                "max_position_embeddings": 3,
                "eos_token_id": END,
            },
            "vision_config": VISION,
            "projection_dim": 16,
        },
        captioned,
        pair_loss,
        right_caption,
        1 / 10,
        answers=10,
    ),
}
