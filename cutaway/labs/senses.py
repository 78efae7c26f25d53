"""Digits that are written, spoken and drawn, as rows for the multimodal decoder: what labs 20 and 33 have in common.

Pictures are scikit-learn's digits, 8 × 8 pixels. A spoken digit is a vowel-like sound made here: two tones whose heights tell the
digit, in a voice of its own (pitch, speed, loudness, noise).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cutaway.data.audio import log_mel
from cutaway.data.interleaved import OmniBatch, with_media
from cutaway.data.pack import collate
from cutaway.data.parts import Piece, join, media_piece, mel_config, text_piece
from cutaway.labs.handwriting import handwritten
from cutaway.nn.media import TOKENS, MediaConfig, stack_frames
from cutaway.nn.patches import patchify
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 4000  # samples per second
MEDIA = MediaConfig(
    image_size=8, patch_size=4, num_channels=1, sampling_rate=RATE, mel_bands=16, n_fft=256, hop_length=125, stack=2
)


def pictures(seed: int) -> tuple[Tensor, Tensor]:
    """All pictures in a random order, 1 × 8 × 8 each, -1…1, and the digits that they show."""
    ink_NHW, digit_N = handwritten()
    order = np.random.default_rng(seed).permutation(len(digit_N))
    return 2 * ink_NHW[order, None] - 1, digit_N[order]


def spoken(digit: int, draw: np.random.Generator) -> Tensor:
    """A quarter of a second of a digit, in a voice drawn anew."""
    t = np.arange(RATE // 4) / RATE
    voice = math.exp(draw.normal(0, 0.06))
    low, high = (200 + 90 * (digit % 5)) * voice, (900 + 250 * (digit // 5)) * voice
    swell = np.exp(-(((t - draw.uniform(0.08, 0.17)) / draw.uniform(0.05, 0.12)) ** 2))
    sound = sum(math.exp(draw.normal(0, 0.4)) * np.sin(2 * np.pi * (f * t + draw.random())) for f in (low, high))
    return torch.tensor(swell * sound + draw.normal(0, 0.15, len(t)), dtype=torch.float32)


def heard(samples_N: Tensor) -> Tensor:
    """The numbers of a sound's positions."""
    return stack_frames(log_mel(samples_N[None], mel_config(MEDIA))[0], MEDIA.stack)


class Writer:
    """Puts parts into pieces.

    Args:
        words: every word that is written; each becomes one token, with the space before it.
    """

    def __init__(self, words: Sequence[str], media: MediaConfig = MEDIA):
        config = TrainTokenizerConfig(vocab_size=1024, extra=tuple(TOKENS.values()))
        self.tokenizer: Tokenizer = train_tokenizer([f" {word}" for word in words] * 2, config)
        self.media = media
        self.ids = {kind: self.tokenizer.special[token] for kind, token in TOKENS.items()}

    def text(self, text: str, learned: bool = False) -> Piece:
        """A text; a learned one ends the row."""
        end = [self.tokenizer.eos_id] if learned and self.tokenizer.eos_id is not None else []
        return text_piece([*self.tokenizer.encode(text), *end], learned, self.media)

    def picture(self, image_CHW: Tensor) -> Piece:
        """An image."""
        return media_piece("image", patchify(image_CHW, self.media.patch_size), self.media, self.ids["image"])

    def sound(self, features_TF: Tensor) -> Piece:
        """A sound, as `heard`."""
        return media_piece("audio", features_TF, self.media, self.ids["audio"])

    def row(self, *parts: Piece, answer: str) -> Piece:
        """Parts and the text that answers them."""
        return join([*parts, self.text(answer, learned=True)])


def together(rows: Sequence[Piece]) -> OmniBatch:
    """Rows as a batch, one piece in each."""
    width = max(len(row.ids) for row in rows) - 1
    return with_media(collate([[(row.ids, row.learned)] for row in rows], width, 0), [[row] for row in rows])


def batches(groups: Sequence[Sequence[Piece]], size: int, seed: int) -> Iterator[OmniBatch]:
    """Without end: `size` rows of each group, drawn with replacement."""
    draw = np.random.default_rng(seed)
    while True:
        yield together([group[i] for group in groups for i in draw.integers(len(group), size=size)])
