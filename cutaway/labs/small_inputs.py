"""Inputs of every kind, and the answers to them: progressions of numbers, words of two languages, digits, tones.

B rows, T positions, S source positions, L answers, M mel bands, F frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.audio import MelConfig, log_mel
from cutaway.data.batch import Batch, Rows
from cutaway.data.pairs import PairBatch
from cutaway.labs.handwriting import handwritten
from cutaway.loss.language_modelling import IGNORED

JUDGED = 512  # rows of a score
V, NOTES, T = 12, 8, 8  # numbers of a progression; tones; places of a progression
MASK, START, END = V, V, V + 1
MEL = MelConfig(feature_size=32, sampling_rate=4000, n_fft=200, hop_length=80, chunk_length=0.32)


@dataclass(frozen=True)
class Seen(Rows):
    """Images or sounds, and what is to be said of each: B × L answers; for pairs of image and text, the text."""

    input_B: Tensor
    answer_BL: Tensor

    @property
    def length(self) -> int:
        """L."""
        return self.answer_BL.shape[1]

    @property
    def n_tokens(self) -> int:
        """B × L."""
        return self.answer_BL.numel()


def progression(rows: int, generator: torch.Generator) -> Tensor:
    """x, x + d, x + 2d … modulo V, with d of 1 to 4; B × T."""
    start_B1, step_B1 = (
        torch.randint(V, (rows, 1), generator=generator),
        torch.randint(1, 5, (rows, 1), generator=generator),
    )
    return (start_B1 + step_B1 * torch.arange(T)) % V


def texts(rows: int, generator: torch.Generator, names: Tensor) -> Batch:
    """Progressions to go on with; from the third number on the next one is known."""
    ids_BT = progression(rows, generator)
    targets_BT = ids_BT.roll(-1, 1)
    targets_BT[:, 0] = targets_BT[:, -1] = IGNORED
    return Batch(ids_BT, targets_BT, torch.arange(T).expand(rows, T), torch.ones_like(ids_BT))


def gaps(rows: int, generator: torch.Generator, names: Tensor) -> Batch:
    """Progressions with one number hidden."""
    whole_BT = progression(rows, generator)
    hidden_BT = torch.arange(T) == torch.randint(T, (rows, 1), generator=generator)
    ids_BT, targets_BT = whole_BT.masked_fill(hidden_BT, MASK), whole_BT.masked_fill(~hidden_BT, IGNORED)
    return Batch(ids_BT, targets_BT, torch.arange(T).expand(rows, T), torch.ones_like(ids_BT))


def translations(rows: int, generator: torch.Generator, names: Tensor) -> PairBatch:
    """Three words, and the same three in the other language, which is `names`."""
    source_BS = torch.randint(V, (rows, 3), generator=generator)
    written_BT = names[source_BS]
    target_BT = torch.cat([torch.full((rows, 1), START), written_BT[:, :-1]], 1)
    return PairBatch(source_BS, torch.ones_like(source_BS, dtype=torch.bool), target_BT, written_BT)


def digits() -> tuple[Tensor, Tensor]:
    """Handwritten digits, N × 1 × 8 × 8 in -1…1, and which they are; the same shuffled order every time."""
    ink_NHW, digit_N = handwritten()
    order = torch.randperm(len(digit_N), generator=torch.Generator().manual_seed(0))
    return 2 * ink_NHW[order, None] - 1, digit_N[order]


def images(rows: int, generator: torch.Generator, names: Tensor) -> Seen:
    """Digits and their names. Those judged on, which are many at a time, are others than those learned from."""
    pixels, label = digits()
    first = rows == JUDGED
    chosen = torch.arange(JUDGED) if first else torch.randint(JUDGED, len(label), (rows,), generator=generator)
    return Seen(pixels[chosen], names[label[chosen]][:, None])


def captioned(rows: int, generator: torch.Generator, names: Tensor) -> Seen:
    """Digits and a caption of three tokens: the name between a beginning and an end."""
    seen = images(rows, generator, names)
    name_B1 = seen.answer_BL
    return Seen(seen.input_B, torch.cat([torch.full_like(name_B1, START), name_B1, torch.full_like(name_B1, END)], 1))


def melodies(rows: int, generator: torch.Generator, names: Tensor) -> Seen:
    """Two tones in noise, as the log-mel spectrogram that Whisper reads, B × M × F, and the names of the notes."""
    note_BL = torch.randint(NOTES, (rows, 2), generator=generator)
    hertz_BL = 250 * 2 ** (0.4 * note_BL)
    time_N = torch.arange(MEL.samples) / MEL.sampling_rate
    part_N = (torch.arange(MEL.samples) * 2 // MEL.samples).clamp(max=1)
    phase_B1 = 6.28 * torch.rand(rows, 1, generator=generator)
    sound_BN = torch.sin(6.2832 * hertz_BL[:, part_N] * time_N + phase_B1)
    sound_BN = sound_BN + 0.3 * torch.randn(sound_BN.shape, generator=generator)
    return Seen(log_mel(sound_BN, MEL), names[note_BL])
