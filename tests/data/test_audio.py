"""Sound files as samples, resampling, and the spectrogram that transformers makes of them."""

import contextlib
import io
import math
import sys

import numpy
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from cutaway.core.errors import CheckpointError, DataError, ResourceError
from cutaway.data import audio
from cutaway.data.audio import MelConfig, chunks, log_mel, mel_config, read_audio, resample
from cutaway.data.media import read_preprocessor


def tone(hertz, rate, seconds=0.25):
    return torch.sin(2 * math.pi * hertz * torch.arange(int(rate * seconds), dtype=torch.float64) / rate)


def encoded(samples, rate=8000, kind="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, numpy.asarray(samples), rate, format=kind, subtype=subtype)
    return file.getvalue()


def test_a_chunk_of_a_number_of_seconds_that_binary_does_not_hold_loses_no_sample():
    assert MelConfig(chunk_length=2 * 201 * 160 / 16_000).samples == 2 * 201 * 160


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
def test_formats(kind, tmp_path):
    samples = 0.5 * tone(440, 16_000)
    path = tmp_path / "sound"
    path.write_bytes(encoded(samples, 16_000, kind))
    found = read_audio(path, 16_000)
    assert found.dtype == torch.float32
    assert torch.equal(read_audio(path.read_bytes(), 16_000), found)
    exact = kind not in ("OGG", "MP3")
    expected = samples.float()
    torch.testing.assert_close(found[: len(expected)], expected, rtol=0, atol=1e-4 if exact else 0.1)


def test_channels_are_averaged():
    samples = torch.stack((tone(300, 8000), torch.zeros(2000)), dim=1)
    torch.testing.assert_close(read_audio(encoded(samples), 8000), (samples[:, 0] / 2).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("have", "want"), [(8000, 16_000), (16_000, 8000), (44_100, 16_000), (22_050, 16_000), (3, 7)])
def test_resampling_a_tone_is_the_tone_at_the_other_rate(have, want):
    hertz = 0.11 * min(have, want)
    seconds = 1.0 if have > 100 else 100.0
    found = resample(tone(hertz, have, seconds).float(), have, want)
    expected = tone(hertz, want, seconds).float()
    assert abs(len(found) - len(expected)) <= 1
    inside = slice(len(expected) // 5, 4 * len(expected) // 5)  # silence begins and ends a sound, a tone does not
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=2e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    assert resample(tone(7000, 16_000).float(), 16_000, 8000)[300:-300].abs().max() < 1e-3


@pytest.mark.parametrize(("have", "want"), [(8000, 16_000), (16_000, 11_025)])
def test_resampling_equals_scipy_on_speech_like_sound(have, want):
    noise = torch.randn(8000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low = scipy.signal.sosfiltfilt(scipy.signal.butter(10, 0.4, output="sos"), noise.numpy()).copy()
    divisor = math.gcd(have, want)
    expected = torch.from_numpy(
        scipy.signal.resample_poly(low, want // divisor, have // divisor, window=("kaiser", 12.0))
    )
    found = resample(torch.from_numpy(low), have, want)
    assert len(found) == len(expected)
    torch.testing.assert_close(found[500:-500], expected[500:-500], rtol=0, atol=5e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 400))
def test_resampling_gives_the_length_of_the_same_time(have, want, length):
    assert len(resample(torch.ones(length), have, want)) == math.ceil(length * want / have)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a sound at all", "does not decode"),
        (encoded(tone(440, 8000), kind="FLAC")[:1500], "(is truncated|does not decode)"),
        (encoded(torch.zeros(0)), "holds no samples"),
        (encoded(torch.ones(9), rate=1_000_001), "claims 1,000,001 samples per second"),
        (encoded([0.0, math.nan], subtype="FLOAT"), "not finite"),
    ],
    ids=["empty", "text", "cut flac", "no samples", "rate", "nan"],
)
def test_broken_files(content, message, tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"audio='.*broken.wav': .*{message}"):
        read_audio(path, 8000)


def test_a_sound_that_is_too_long_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(audio, "LONGEST", 0.2)
    with pytest.raises(DataError, match=r"is longer than 0.2 seconds \(cut it\)"):
        read_audio(encoded(tone(440, 8000)), 8000)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(DataError, match=r"audio='.*nowhere.wav': no such file"):
        read_audio(tmp_path / "nowhere.wav", 8000)
    with pytest.raises(DataError, match="is not a file"):
        read_audio(tmp_path, 8000)


def test_without_soundfile(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ResourceError, match="soundfile is not installed"):
        read_audio(b"x", 8000)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["WAV", "FLAC", "OGG"]))
def test_damage_is_seen_or_harmless(data, kind):
    content = bytearray(encoded(tone(440, 8000, 0.02), kind=kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        found = read_audio(bytes(content[: data.draw(st.integers(0, len(content)))]), 8000)
        assert found.isfinite().all()
        assert len(found)


SHAPES = {
    "Whisper": {},
    "Whisper large v3": dict(feature_size=128, chunk_length=5),
    "another": dict(feature_size=24, sampling_rate=22_050, n_fft=512, hop_length=200, chunk_length=2),
}


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_spectrograms_equal_transformers(case, tmp_path):
    theirs = WhisperFeatureExtractor(**SHAPES[case])
    theirs.save_pretrained(tmp_path)
    config = mel_config(read_preprocessor(tmp_path))
    torch.manual_seed(0)
    rate = config.sampling_rate
    sounds = [0.3 * torch.randn(rate // 2), tone(440, rate, 1.3).float(), 0.01 * torch.randn(9), torch.zeros(100)]
    expected = theirs([sound.numpy() for sound in sounds], sampling_rate=rate, return_tensors="pt").input_features
    found = log_mel(torch.cat([chunks(sound, config) for sound in sounds]), config)
    assert found.shape == (4, config.feature_size, config.samples // config.hop_length)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_spoken_digits(data):
    """Real recordings: read, resampled and turned into what transformers makes of the same samples."""
    theirs, config = WhisperFeatureExtractor(chunk_length=1), MelConfig(chunk_length=1)
    files = sorted((data / "fsdd_small").glob("*.wav"))[::40]
    assert files
    for file in files:
        samples = read_audio(file, config.sampling_rate)
        assert len(samples) == 2 * soundfile.info(file).frames  # recorded at 8 kHz
        expected = theirs(samples.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
        found = log_mel(chunks(samples, config), config)
        torch.testing.assert_close(found[:1], expected, rtol=0, atol=1e-4)


def test_nothing_of_a_long_sound_is_lost():
    config = MelConfig(sampling_rate=1000, chunk_length=0.5)
    pieces = chunks(torch.arange(1200.0), config)
    assert pieces.shape == (3, 500)
    assert torch.equal(pieces.flatten(), torch.cat((torch.arange(1200.0), torch.zeros(300))))
    assert chunks(torch.ones(1000), config).shape == (2, 500)


def test_what_is_too_short_or_not_supported():
    with pytest.raises(DataError, match=r"audio='200 samples': is too short"):
        log_mel(torch.zeros(1, 200), MelConfig())
    with pytest.raises(CheckpointError, match=r"dither=0.1: unsupported \(0\)"):
        mel_config({"dither": 0.1})
    with pytest.raises(CheckpointError, match="hop_length"):
        mel_config({"hop_length": 0})
