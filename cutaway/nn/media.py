"""What images, sounds and videos look like as positions of a sequence: the numbers of each, and where it stands in its medium.

A position of an image or of a frame of a video is a patch; one of a sound is a few mel frames. Text positions have none.
F numbers of a position, N patches of an image, M mel bands, T mel frames.
"""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import pad

from cutaway.core.config import Config
from cutaway.nn.patches import Size, count_patches, height_width

MEDIA = ("image", "audio", "video")
TOKENS = {kind: f"<|{kind}|>" for kind in MEDIA}
"""The special tokens that hold the places of media in a sequence."""


class MediaConfig(Config):
    """How a model sees and hears."""

    image_size: Size = Field(32, description="side, or height and width, in pixels; images are scaled to it")
    patch_size: Size = Field(8, description="side, or height and width, in pixels")
    num_channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour")
    max_frames: int = Field(16, gt=0, description="frames of a video at most")
    sampling_rate: int = Field(16_000, gt=0, description="samples per second")
    mel_bands: int = Field(40, gt=0)
    n_fft: int = Field(400, gt=1, description="samples under one window")
    hop_length: int = Field(160, gt=0, description="samples from window to window")
    stack: int = Field(4, gt=0, description="mel frames that make one position")

    @model_validator(mode="after")
    def _fits(self) -> "MediaConfig":
        if min(*height_width(self.image_size), *height_width(self.patch_size)) < 1:
            raise ValueError("image_size and patch_size must be above 0")
        if self.patches < 1:
            raise ValueError(f"patch_size {self.patch_size} is larger than image_size {self.image_size}")
        return self

    @property
    def patches(self) -> int:
        """N."""
        return count_patches(self.image_size, self.patch_size)

    @property
    def patch_width(self) -> int:
        """Numbers of a patch."""
        return self.num_channels * math.prod(height_width(self.patch_size))

    @property
    def sound_width(self) -> int:
        """Numbers of a position of a sound."""
        return self.mel_bands * self.stack

    @property
    def width(self) -> int:
        """F: room for either."""
        return max(self.patch_width, self.sound_width)


def stack_frames(mel_MT: Tensor, stack: int) -> Tensor:
    """T / `stack` rounded up × `stack` · M: frames next to each other, the last ones filled up with the quietest value."""
    missing = -mel_MT.shape[1] % stack
    return pad(mel_MT, (0, missing), value=float(mel_MT.min())).T.reshape(-1, stack * len(mel_MT)).contiguous()


def widened(x_NF: Tensor, width: int) -> Tensor:
    """Zeros on the right up to `width`, so that patches and sounds share one tensor."""
    return pad(x_NF.to(torch.float32), (0, width - x_NF.shape[1]))
