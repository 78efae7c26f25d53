"""Image files as tensors: every kind, every way to be broken, and the pixels that transformers makes of them."""

import contextlib
import io
import struct
import sys
import zlib

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutaway.core.errors import CheckpointError, ConfigError, DataError, ResourceError
from cutaway.data import images
from cutaway.data.images import ImageConfig, centre_crop, image_config, prepare, read_image, resize
from cutaway.data.media import read_preprocessor


def picture(height, width, seed=0):
    """A smooth random image, as photographs are: H × W × 3 bytes."""
    rough = numpy.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=numpy.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_formats(kind, tmp_path):
    image = picture(13, 17)
    path = tmp_path / "image"
    options = {"WEBP": dict(lossless=True), "JPEG": dict(quality=95, subsampling=0)}
    path.write_bytes(encoded(image, kind, **options.get(kind, {})))
    found = read_image(path)
    assert found.shape == (3, 13, 17)
    assert found.dtype == torch.float32
    expected = torch.from_numpy(numpy.array(image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(found, expected, rtol=0, atol=0.15 if kind in ("GIF", "JPEG") else 0)
    assert torch.equal(read_image(path.read_bytes()), found)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes(mode):
    grey = numpy.array([[0, 255], [255, 0]], dtype=numpy.uint8)
    image = Image.fromarray(grey.astype(numpy.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    for channels in (1, 3):
        assert read_image(encoded(image), channels).tolist() == [[[0.0, 1.0], [1.0, 0.0]]] * channels


def test_a_palette_with_transparency_and_a_photograph_held_upright():
    palette = picture(8, 8).convert("P")
    assert read_image(encoded(palette, transparency=b"\0\x80" * 4)).shape == (3, 8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert read_image(encoded(picture(6, 10), "JPEG", exif=exif)).shape == (3, 10, 6)


def bomb():
    """A PNG of a hundred bytes that says it is 30,000 by 30,000."""

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not an image at all", "does not decode"),
        (encoded(picture(40, 40))[:900], "does not decode"),
        (encoded(picture(40, 40), "JPEG")[:500], "does not decode"),
        (bomb(), "has more than 64,000,000 pixels"),
        (encoded(Image.fromarray(numpy.ones((2, 2), dtype=numpy.float32)), "TIFF"), "has 32 bits per pixel"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "bomb", "float"],
)
def test_broken_files(content, message, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"image='.*broken.png': {message}"):
        read_image(path)
    with pytest.raises(DataError, match=rf"image='{len(content)} bytes': {message}"):
        read_image(content)


def test_a_large_image_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    with pytest.raises(DataError, match="has more than 100 pixels"):
        read_image(encoded(picture(10, 11)))


def test_an_image_without_pixels(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda file: Image.new("RGB", (0, 3)))
    with pytest.raises(DataError, match="has no pixels"):
        read_image(b"anything")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="is not a file"):
        read_image(tmp_path)
    with pytest.raises(DataError, match="may not be read"):
        read_image(tmp_path / ("long" * 200))


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ResourceError, match="Pillow is not installed"):
        read_image(b"x")


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]))
@pytest.mark.filterwarnings("ignore")  # Pillow's, about what is broken
def test_damage_is_seen_or_harmless(data, kind):
    content = bytearray(encoded(picture(9, 9), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert read_image(bytes(content[: data.draw(st.integers(0, len(content)))])).isfinite().all()


HF = dict(do_resize=True, do_rescale=True, do_normalize=True, rescale_factor=1 / 255)
PROCESSORS = {
    "CLIP": dict(size={"shortest_edge": 20}, crop_size={"height": 18, "width": 16}, do_center_crop=True, resample=3),
    "CLIP, bare numbers": dict(size=20, crop_size=17, do_center_crop=True, resample=3),
    "CLIP, nearest": dict(size={"shortest_edge": 20}, do_center_crop=False, resample=0),
    "ViT": dict(size={"height": 16, "width": 24}, resample=2),
    "ViT, bare numbers": dict(size=16, resample=2),
    "ViT, no step": dict(do_resize=False, do_normalize=False),
}


@pytest.mark.parametrize("shape", [(45, 31), (15, 33), (20, 20)])
@pytest.mark.parametrize("case", PROCESSORS)
def test_pixels_equal_transformers(case, shape, tmp_path):
    """To one step of eight bits: Pillow rounds between the two directions of a resize, and we do not."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    kind = CLIPImageProcessorPil if case.startswith("CLIP") else ViTImageProcessorPil
    mean, std = [0.4, 0.5, 0.6], [0.3, 0.2, 0.25]
    processor = kind(**{**HF, "image_mean": mean, "image_std": std, **PROCESSORS[case]})
    processor.save_pretrained(tmp_path)
    config = image_config(read_preprocessor(tmp_path))
    assert image_config({**HF, "image_processor_type": kind.__name__, **PROCESSORS[case]}).size == config.size
    image = picture(*shape)
    expected = torch.from_numpy(numpy.array(processor(image)["pixel_values"][0]))
    found = prepare(read_image(encoded(image)), config)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1.6 / 255 / 0.2)


def test_digits_of_scikit_learn():
    """Real pictures through a file and back, to the size and range that a model wants."""
    from sklearn.datasets import load_digits

    digits = load_digits().images[:5]
    config = ImageConfig(size=12, crop_size=(10, 10), image_mean=(0.5,), image_std=(0.5,))
    for digit in digits:
        content = encoded(Image.fromarray((digit * 255 / 16).astype(numpy.uint8)))
        pixels = prepare(read_image(content, config.channels), config)
        assert pixels.shape == (1, 10, 10)
        assert -1 <= pixels.min() < 0 < pixels.max() <= 1


def test_resize_keeps_a_plain_image_plain_and_a_crop_is_the_middle():
    assert torch.equal(resize(torch.full((3, 7, 5), 0.25), 13, 3, "nearest"), torch.full((3, 13, 3), 0.25))
    torch.testing.assert_close(resize(torch.full((3, 7, 5), 0.25), 13, 3, "bicubic"), torch.full((3, 13, 3), 0.25))
    assert centre_crop(torch.arange(5.0).expand(1, 5, 5), 1, 3).tolist() == [[[1, 2, 3]]]
    with pytest.raises(DataError, match=r"image='2×5': is smaller than the crop \(at least 3×3\)"):
        centre_crop(torch.zeros(1, 2, 5), 3, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(do_rescale=False), "do_rescale=False: only true"),
        (dict(do_pad=True), "do_pad=True: only false"),
        (dict(rescale_factor=1.0), "rescale_factor=1.0: only 1/255"),
        (dict(size={"longest_edge": 5}), "size={'longest_edge': 5}: unsupported"),
        (dict(size=8, resample=1), r"resample=1: unsupported \(0 \(nearest\)"),
        (dict(rescale_factor="1/255"), "rescale_factor='1/255': only 1/255"),
        (dict(size=8, resample=[2]), r"resample=\[2\]: unsupported"),
        (dict(size={"height": [8], "width": None}), "size"),
        (dict(size=8, image_mean="0.5"), "image_mean"),
        (dict(do_resize="false"), "do_resize='false': must be true or false"),
        (dict(size=8, do_center_crop=True), "crop_size: unsupported"),
        (dict(size=8, image_mean=[0.5, 0.5]), "image_mean and image_std need one number each"),
    ],
)
def test_preprocessors_that_are_not_supported(values, message):
    with pytest.raises(CheckpointError, match=message):
        image_config(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no preprocessor_config.json"), ("{", "cannot be read"), ("[]", "is not a JSON object")],
)
def test_preprocessor_files_that_cannot_be_read(content, message, tmp_path):
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_preprocessor(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(size=8, crop_size=(9, 4)), r"crop_size \(9, 4\) is larger than size 8"),
        (dict(image_std=(1.0, 0.0, 1.0)), "image_std must be above 0"),
        (dict(size=0), "size must be above 0"),
        (dict(image_mean=(0.5,)), "one number each"),
    ],
)
def test_configurations_that_cannot_be(values, message):
    from cutaway.core.config import make_config

    with pytest.raises(ConfigError, match=message):
        make_config(ImageConfig, values)
