"""Sound files as samples, and samples as the log-mel spectrogram that Whisper reads.

B sounds, N samples, F mel bands, T frames.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError, DataError, ResourceError
from cutaway.data.media import Source, decoding, source_name

LONGEST, FASTEST = 4 * 3600, 1_000_000  # seconds, samples per second; a few bytes of a broken header can claim any


class MelConfig(Config):
    """How a model wants its sounds; field names are those of `preprocessor_config.json`."""

    feature_size: int = Field(80, gt=0, description="mel bands")
    sampling_rate: int = Field(16_000, gt=0, description="samples per second")
    n_fft: int = Field(400, gt=1, description="samples under one window")
    hop_length: int = Field(160, gt=0, description="samples from window to window")
    chunk_length: float = Field(30, gt=0, description="seconds that the model hears at once")

    @property
    def samples(self) -> int:
        """N of a chunk."""
        return round(self.chunk_length * self.sampling_rate)


def read_audio(source: Source, rate: int) -> Tensor:
    """N samples, float32 in -1…1: all channels averaged, at `rate` samples per second.

    Args:
        source: a file of any format that libsndfile knows (WAV, FLAC, Ogg, MP3 …), or its bytes.

    Raises:
        DataError: missing, empty, truncated, no sound, without samples, not finite, or longer than `LONGEST`.
        ResourceError: soundfile is not installed.
    """
    name = source_name(source)
    with _opened(source) as sound:
        have, frames = sound.samplerate, sound.frames
        if not frames:
            raise DataError("holds no samples", field="audio", value=name)
        if have > FASTEST:
            raise DataError(f"claims {have:,} samples per second", field="audio", value=name, hint="is it whole?")
        if frames > LONGEST * have:
            raise DataError(f"is longer than {LONGEST} seconds", field="audio", value=name, hint="cut it")
        blocks = sound.blocks(have * 60, dtype="float32", always_2d=True)  # all channels at once take much memory
        samples = torch.cat([torch.from_numpy(block).mean(1) for block in blocks])
    if len(samples) < frames:
        raise DataError(f"is truncated: {len(samples)} of {frames} samples", field="audio", value=name)
    if not samples.isfinite().all():
        raise DataError("holds samples that are not finite", field="audio", value=name)
    return resample(samples, have, rate)


def duration(source: Source) -> float:
    """Seconds of a sound as its header has them; nothing is decoded.

    Raises:
        DataError: missing, empty or no sound. ResourceError: soundfile is not installed.
    """
    with _opened(source) as sound:
        return sound.frames / sound.samplerate


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    try:
        import soundfile
    except (ImportError, OSError):  # the package, or the library under it
        raise ResourceError(
            "soundfile is not installed, and sounds need it", field="audio", hint="pip: soundfile"
        ) from None
    with decoding(source, "audio") as file, soundfile.SoundFile(file) as sound:
        yield sound


def resample(samples_N: Tensor, have: int, want: int, zeros: int = 32, rolloff: float = 0.95) -> Tensor:
    """The same sound at another rate: band-limited interpolation with a Hann-windowed sinc (Smith & Gossett 1984).

    Output sample n stands at n · have / want on the input's time. Its weights depend on the fraction of that alone, and the
    fractions repeat after want / gcd samples: each is one product of a matrix (a view of the samples) with a vector.

    Args:
        have, want: samples per second.
        zeros: zero crossings of the sinc at either side; more are sharper.
        rolloff: the highest frequency kept, as a part of the lower rate's half.
    """
    down, up = have // math.gcd(have, want), want // math.gcd(have, want)
    if down == up:
        return samples_N
    cutoff = rolloff * min(1.0, want / have)
    half = math.ceil(zeros / cutoff)
    length = math.ceil(len(samples_N) * up / down)
    blocks = math.ceil(length / up)
    padded = functional.pad(samples_N, (half - 1, half + down))
    taps = torch.arange(1 - half, half + 1, dtype=torch.float64)

    def phase(number: int) -> Tensor:
        """Every output sample whose place in its block is `number`."""
        start, rest = divmod(number * down, up)
        time = cutoff * (rest / up - taps)  # in zero crossings
        window = (math.pi / 2 * time / zeros).cos().square() * (time.abs() < zeros)
        weights = (cutoff * torch.sinc(time) * window).to(samples_N.dtype)
        return padded[start:].unfold(0, 2 * half, down)[:blocks] @ weights

    return torch.stack([phase(number) for number in range(min(up, length))], dim=1).flatten()[:length]


def chunks(samples_N: Tensor, config: MelConfig) -> Tensor:
    """B × N: the sound in pieces of `chunk_length`, the last filled up with silence."""
    pieces = max(1, math.ceil(len(samples_N) / config.samples))
    return functional.pad(samples_N, (0, pieces * config.samples - len(samples_N))).view(pieces, config.samples)


def log_mel(samples_BN: Tensor, config: MelConfig) -> Tensor:
    """B × F × T: the log-mel spectrogram of Radford et al. 2022, section 2.2, T = N / `hop_length`.

    Base-10 logarithms of the power in each band, from the loudest down to 8 (80 dB) below it, scaled to about -1…1.

    Raises:
        DataError: a sound shorter than half a window.
    """
    if samples_BN.shape[-1] <= config.n_fft // 2:
        raise DataError(
            "is too short", field="audio", value=f"{samples_BN.shape[-1]} samples", hint="use data.audio.chunks"
        )
    window = torch.hann_window(config.n_fft, device=samples_BN.device)
    spectrum = torch.stft(samples_BN, config.n_fft, config.hop_length, window=window, return_complex=True)
    power = spectrum[..., :-1].abs().square()
    mel = mel_filters(config).to(power) @ power
    log = mel.clamp(min=1e-10).log10()
    return (torch.maximum(log, log.amax((-2, -1), keepdim=True) - 8) + 4) / 4


def mel_filters(config: MelConfig) -> Tensor:
    """F × (n_fft / 2 + 1), float32: triangles that overlap by half, equally wide on the mel scale up to 8 kHz, of equal area.

    The scale is that of Slaney's Auditory Toolbox: linear to 1 kHz (15 mel), then logarithmic, 27 mel to 6.4 kHz.
    """
    top = _hertz_to_mel(8000.0)
    corners = _mel_to_hertz(torch.linspace(0, top, config.feature_size + 2, dtype=torch.float64))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = torch.linspace(0, config.sampling_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()


def mel_config(values: dict[str, Any]) -> MelConfig:
    """From the values of a `preprocessor_config.json` (`data.media.read_preprocessor`)."""
    if values.get("dither"):
        raise CheckpointError("unsupported", field="dither", value=values["dither"], hint="0")
    try:
        return MelConfig.model_validate(
            {name: values[name] for name in MelConfig.model_fields if values.get(name) is not None}
        )
    except ValueError as err:
        raise CheckpointError(str(err), field="preprocessor_config.json") from None


def _hertz_to_mel(hertz: float) -> float:
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4) if hertz >= 1000 else hertz * 3 / 200


def _mel_to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel >= 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)
