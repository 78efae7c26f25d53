"""One decoder for interleaved text, images, sounds and videos, trained on all of them from the start.

The Llama decoder. A patch of an image or of a video's frame, and a few mel frames of a sound, go through one linear layer each
(Fuyu, Bavishi et al. 2023) and stand in the sequence like tokens, where special tokens hold their places; everything behind
that is shared. Deviation: learned positions of patch and frame are added (the rotary ones count along the sequence), because the
order of patches says little of the plane. Text is predicted; media are only read.

B batch, T positions, D model width, F numbers of a medium's position, N patches of an image.
"""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from cutaway.models.decoder import initialise
from cutaway.models.llama import Llama
from cutaway.models.llama_config import LlamaConfig
from cutaway.nn.cache import KVCache
from cutaway.nn.media import MEDIA, MediaConfig

MODEL_TYPES = ("omni",)


class OmniConfig(LlamaConfig):
    """The shape of a model; that of the decoder, and what it sees and hears."""

    model_type: Literal["omni"] = "omni"  # type: ignore[assignment]
    media: MediaConfig = MediaConfig()
    image_token_id: int = Field(1, ge=0, description="holds the place of a patch of an image")
    audio_token_id: int = Field(2, ge=0, description="holds the place of a few mel frames of a sound")
    video_token_id: int = Field(3, ge=0, description="holds the place of a patch of a video's frame")

    @model_validator(mode="after")
    def _own_tokens(self) -> "OmniConfig":
        ids = self.media_ids.values()
        if len(set(ids)) < len(MEDIA) or max(ids) >= self.vocab_size:
            raise ValueError(f"media need token ids of their own below vocab_size {self.vocab_size}: {self.media_ids}")
        return self

    @property
    def media_ids(self) -> dict[str, int]:
        """The token that holds the places of each kind."""
        return {kind: getattr(self, f"{kind}_token_id") for kind in MEDIA}


class Senses(nn.Module):
    """What media add to the embeddings of the tokens that hold their places."""

    def __init__(self, config: OmniConfig):
        super().__init__()
        self.config = config
        media, D = config.media, config.width
        self.patch, self.sound = nn.Linear(media.patch_width, D), nn.Linear(media.sound_width, D)
        self.patch_position, self.frame_position = nn.Embedding(media.patches, D), nn.Embedding(media.max_frames, D)

    def forward(self, x_BTD: Tensor, ids_BT: Tensor, features_BTF: Tensor, places_BT: Tensor) -> Tensor:
        c, media = self.config, self.config.media
        seen_BT = (ids_BT == c.image_token_id) | (ids_BT == c.video_token_id)
        heard_BT = ids_BT == c.audio_token_id
        features_BTF, places = features_BTF.to(self.patch.weight.dtype), places_BT[seen_BT]
        seen = self.patch(features_BTF[seen_BT][:, : media.patch_width])
        seen = seen + self.patch_position(places % media.patches) + self.frame_position(places // media.patches)
        heard = self.sound(features_BTF[heard_BT][:, : media.sound_width])
        x_BTD = x_BTD.index_put((seen_BT,), seen.to(x_BTD.dtype), accumulate=True)
        return x_BTD.index_put((heard_BT,), heard.to(x_BTD.dtype), accumulate=True)


class Omni(Llama):
    """A multimodal decoder with random weights; `models.load` fills it from a checkpoint. Without media it is a text decoder."""

    config: OmniConfig

    def __init__(self, config: OmniConfig):
        super().__init__(config)
        self.senses = Senses(config)
        initialise(self.senses, config.initializer_range)

    def forward(
        self,
        ids_BT: Tensor,
        *,
        features_BTF: Tensor | None = None,
        places_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        mask_BTS: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Final hidden states, B × T × D, after the last norm.

        Args:
            ids_BT: token ids; those of `config.media_ids` where a medium stands.
            features_BTF: the numbers of each position of a medium (`nn.media`); others are not read.
            places_BT: of each patch, its number in the image; those of a video's frames are counted on.
            positions_BT, mask_BTS, cache: as in every decoder.
        """
        x_BTD = self.embedding(ids_BT)
        if features_BTF is not None and places_BT is not None:
            x_BTD = self.senses(x_BTD, ids_BT, features_BTF, places_BT)
        return super().forward(x_BTD, positions_BT=positions_BT, mask_BTS=mask_BTS, cache=cache)

    def hidden(self, x_BTD: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """The residual stream after the last block, from embeddings."""
        rope = self._rope(positions_BT, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, rope, mask, cache)
        return x_BTD


def config_from_hf(values: dict[str, Any]) -> OmniConfig:
    """Read the `config.json` that we wrote."""
    return OmniConfig.model_validate({name: value for name, value in values.items() if name in OmniConfig.model_fields})


def config_to_hf(config: OmniConfig) -> dict[str, Any]:
    """Our own `config.json`; no other library reads it."""
    return {"architectures": ["Omni"], **config.model_dump(mode="json")}


def build(config: OmniConfig) -> Omni:
    """A fresh model."""
    return Omni(config)
