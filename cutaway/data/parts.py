"""Rows of interleaved parts, and what they become: token ids, and the numbers of media at the places that they take.

[{"text": "what is this?"}, {"image": "cat.png"}, {"text": " a cat", "learn": true}]

A part is a text, an `image` or `audio` file, or a `video`: a list of image files, or a folder of them, in order. Texts marked
with `learn` are supervised; in a row without a mark, all are. Files are looked for beside the file that names them.

T positions, F numbers of a medium's position.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core.errors import DataError, near_matches
from cutaway.data.audio import MelConfig, log_mel, read_audio
from cutaway.data.images import ImageConfig, prepare, read_image
from cutaway.data.media import Source
from cutaway.data.read import find_files, read_records
from cutaway.nn.media import MEDIA, MediaConfig, stack_frames, widened
from cutaway.nn.patches import height_width, patchify
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Part:
    """One part of a row.

    Args:
        kind: text, image, audio or video.
        text: of a text.
        files: of a medium; of a video one per frame.
        learn: whether the text is supervised; None: the row decides.
    """

    kind: str
    text: str = ""
    files: tuple[Source, ...] = ()
    learn: bool | None = None


@dataclass(frozen=True)
class Row:
    """The parts of a row, and where it stood (`train.jsonl:17`)."""

    parts: tuple[Part, ...]
    where: str

    @property
    def key(self) -> str:
        """What the row is about, the same for all rows about the same files: their names, or the text where there are none."""
        files = [file for part in self.parts for file in part.files]
        names = ["/".join(Path(file).parts[-2:]) for file in files if not isinstance(file, bytes)]
        return repr(names or [part.text for part in self.parts])

    @property
    def marked(self) -> bool:
        """Whether some part says that it is learned, so that the others are not."""
        return any(part.learn for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """A row as the model reads it.

    Args:
        ids: T; those of `OmniConfig.media_ids` where a medium stands.
        learned: T; whether predicting the token is learned.
        features: T × F, zero where there is text.
        places: T; the number of a patch in its image, counted on through the frames of a video.
    """

    ids: np.ndarray
    learned: np.ndarray
    features_TF: Tensor
    places_T: Tensor


def read_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """The rows of files, which are not opened for their media yet; a row without parts is one, too.

    Raises:
        DataError: a row or a part is misshapen; which, and where.
    """
    for file in find_files(path):
        for record in read_records(file, encoding):
            if not isinstance(record.value, list):
                raise DataError("must be a list of parts", field=record.where, value=record.value, hint=_SHAPES)
            parts = enumerate(record.value)
            yield Row(tuple(_part(part, f"{record.where}[{i}]", file.parent) for i, part in parts), record.where)


def find_row(spec: str, encoding: str = "utf-8") -> Row:
    """One row by where it stands: `rows.jsonl:17`, as errors name it; `rows.jsonl` is its first.

    Raises:
        DataError: there is none.
    """
    name, colon, number = spec.rpartition(":")
    path = Path(name) if colon and number.isdigit() and not Path(spec).exists() else Path(spec)
    ending = f":{number}" if path != Path(spec) else ""
    for row in read_rows(path, encoding):
        if row.where.endswith(ending):
            return row
    raise DataError("holds no such row", field="row", value=spec, hint=f"{path}:N, by its number in the file")


def encode_row(row: Row, tokenizer: Tokenizer, media: MediaConfig, media_ids: Mapping[str, int]) -> Piece:
    """Texts as tokens and media as numbers, between BOS where the tokeniser adds one and EOS, which ends what is learned.

    Raises:
        DataError: a file is missing, does not decode, or is too long; which, and in which row.
    """
    start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    last = row.parts[-1] if row.parts else None
    learn_end = last is not None and last.kind == "text" and (bool(last.learn) or not row.marked)
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    return join(
        [
            text_piece(start, False, media),
            *_encoded(row, tokenizer, media, media_ids),
            text_piece(end, learn_end, media),
        ]
    )


def encode_prompt(row: Row, tokenizer: Tokenizer, media: MediaConfig, media_ids: Mapping[str, int]) -> Piece:
    """As `encode_row` without EOS, to be continued."""
    start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    return join([text_piece(start, False, media), *_encoded(row, tokenizer, media, media_ids)])


def join(pieces: Sequence[Piece]) -> Piece:
    """Pieces, one after another."""
    return Piece(
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([piece.learned for piece in pieces]),
        torch.cat([piece.features_TF for piece in pieces]),
        torch.cat([piece.places_T for piece in pieces]),
    )


def _encoded(row: Row, tokenizer: Tokenizer, media: MediaConfig, media_ids: Mapping[str, int]) -> Iterator[Piece]:
    for part in row.parts:
        if part.kind == "text":
            yield text_piece(tokenizer.encode(part.text), bool(part.learn) or not row.marked, media)
            continue
        try:
            yield medium(part.kind, part.files, media, media_ids[part.kind])
        except DataError as err:
            raise DataError(err.message, field=f"{row.where} {part.kind}", value=err.value, hint=err.hint) from None


def medium(kind: str, files: Sequence[Source], media: MediaConfig, token_id: int) -> Piece:
    """An image, a sound or a video as positions.

    Raises:
        DataError: a file is missing or does not decode; a sound is too short, or a video has too many frames.
    """
    if kind == "audio":
        features = stack_frames(mel_frames(files[0], media), media.stack)
    else:
        if len(files) > media.max_frames:
            raise DataError("has too many frames", field=kind, value=len(files), hint=f"at most {media.max_frames}")
        features = torch.cat([patchify(pixels(file, media), media.patch_size) for file in files])
    return media_piece(kind, features, media, token_id)


def text_piece(ids: Sequence[int], learned: bool, media: MediaConfig) -> Piece:
    """Token ids as a piece."""
    T = len(ids)
    features, places = torch.zeros(T, media.width), torch.zeros(T, dtype=torch.int64)
    return Piece(np.array(ids, np.int64), np.full(T, learned), features, places)


def media_piece(kind: str, features_TF: Tensor, media: MediaConfig, token_id: int) -> Piece:
    """The numbers of a medium's positions, however they were come by, as a piece."""
    T = len(features_TF)
    places_T = torch.zeros(T, dtype=torch.int64) if kind == "audio" else torch.arange(T)
    return Piece(np.full(T, token_id, np.int64), np.zeros(T, bool), widened(features_TF, media.width), places_T)


def pixels(file: Source, media: MediaConfig) -> Tensor:
    """An image in the model's size, -1…1."""
    half = (0.5,) * media.num_channels
    config = ImageConfig(size=height_width(media.image_size), image_mean=half, image_std=half)
    return prepare(read_image(file, media.num_channels), config)


def mel_frames(file: Source, media: MediaConfig) -> Tensor:
    """M × T: the log-mel spectrogram of a sound."""
    samples_N = read_audio(file, media.sampling_rate)
    return log_mel(samples_N[None], mel_config(media))[0]


def mel_config(media: MediaConfig) -> MelConfig:
    """The spectrogram that the model hears."""
    return MelConfig(
        feature_size=media.mel_bands,
        sampling_rate=media.sampling_rate,
        n_fft=media.n_fft,
        hop_length=media.hop_length,
    )


_SHAPES = '{"text": …}, {"image": file}, {"audio": file}, {"video": [file, …] or folder}'


def _part(value: Any, where: str, folder: Path) -> Part:
    kinds = [kind for kind in ("text", *MEDIA) if isinstance(value, Mapping) and kind in value]
    if len(kinds) != 1:
        raise DataError("must be one part", field=where, value=value, hint=_SHAPES)
    kind = kinds[0]
    unknown = [str(key) for key in value if key not in (kind, "learn")]
    if unknown:
        raise DataError("unknown key", field=where, value=unknown[0], hint=near_matches(unknown[0], (kind, "learn")))
    learn, content = value.get("learn"), value[kind]
    if "learn" in value and not isinstance(learn, bool):
        raise DataError("must be true or false", field=f"{where} learn", value=learn)
    if learn and kind != "text":
        raise DataError("only text can be learned", field=f"{where} learn", value=kind)
    if kind == "text":
        if not isinstance(content, str):
            raise DataError("must be text", field=f"{where} text", value=content)
        return Part(kind, content, learn=learn)
    names = content if isinstance(content, list) and kind == "video" else [content]
    if not names or any(not isinstance(name, str) or not name for name in names):
        raise DataError("must name a file", field=f"{where} {kind}", value=content, hint=_SHAPES)
    files = [folder / name for name in names]
    if kind == "video" and isinstance(content, str):
        files = sorted(path for path in files[0].glob("*") if path.is_file())
        if not files:
            raise DataError(
                "holds no frame", field=f"{where} video", value=str(folder / content), hint="a folder of images"
            )
    return Part(kind, files=tuple(files), learn=learn)
