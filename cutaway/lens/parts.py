"""Interleaved texts, images, sounds and videos as a multimodal model reads them, one row. T positions, F numbers of a medium."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.parts import Row, encode_prompt
from cutaway.models.omni import Omni
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Parts:
    """A row on the model's device.

    Args:
        ids_1T: token ids; one token holds the places of each kind of medium.
        features_1TF, places_1T: as `models.omni.Omni.forward` takes them.
        learned_1T: whether training predicts the token: texts, or of a row with marks the marked ones.
        media: what stands at each position: `image 3` for its patch, `audio 3` for a few frames; empty where there is text.
    """

    ids_1T: Tensor
    features_1TF: Tensor
    places_1T: Tensor
    learned_1T: Tensor
    media: tuple[str, ...]

    @property
    def text_ids(self) -> list[int]:
        """The tokens of the texts."""
        return [id for id, medium in zip(self.ids_1T[0].tolist(), self.media, strict=True) if not medium]


def to_parts(row: Row, model: Omni, tokenizer: Tokenizer) -> Parts:
    """A row as `cutaway omni ask` reads it.

    Raises:
        DataError: a file is missing, does not decode, or is too long; which, and in which row.
    """
    media_ids, device = model.config.media_ids, model.embedding.weight.device
    piece = encode_prompt(row, tokenizer, model.config.media, media_ids)
    kinds, media, heard = {id: kind for kind, id in media_ids.items()}, [], 0
    for id, place in zip(piece.ids.tolist(), piece.places_T.tolist(), strict=True):
        kind = kinds.get(id, "")
        media.append(f"{kind} {heard if kind == 'audio' else place}" if kind else "")
        heard = heard + 1 if kind == "audio" else 0
    return Parts(
        torch.from_numpy(piece.ids)[None].to(device),
        piece.features_TF[None].to(device),
        piece.places_T[None].to(device),
        torch.from_numpy(piece.learned)[None].to(device),
        tuple(media),
    )
