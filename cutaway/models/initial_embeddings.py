"""What the token embedding of a fresh model begins with: noise, word vectors, or the rows of another checkpoint.

V tokens, D model width, W width of the word vectors.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cutaway.core.config import Config
from cutaway.core.errors import CheckpointError, DataError
from cutaway.models.load import load
from cutaway.text.tokenizer import Tokenizer

_MAX_WIDTH = 65_536


class EmbeddingsConfig(Config):
    """How the embedding begins."""

    init: Literal["random", "scaled", "vectors", "checkpoint"] = Field(
        "random",
        description="random: as the family does; scaled: N(0, 1/D); vectors: word vectors; checkpoint: another model's rows",
    )
    path: str | None = Field(None, description="a .vec or .bin file of word vectors, or a checkpoint")

    @model_validator(mode="after")
    def _has_path(self) -> "EmbeddingsConfig":
        if (self.init in ("vectors", "checkpoint")) != (self.path is not None):
            raise ValueError(f"path goes with init vectors and checkpoint, and with no other; init is {self.init}")
        return self


@torch.no_grad()
def initialise_embeddings(model: Any, tokenizer: Tokenizer, config: EmbeddingsConfig) -> dict[str, int]:
    """Fill the embedding of `model`; what nothing is known about stays as drawn.

    Rows that are found are moved to the mean 0 (but for a single vector, of which nothing would be left) and scaled to the
    standard deviation of the rows they replace, so that the first logits are as large as with noise. Vectors of another width
    are turned to D by their principal axes: cut off, or filled up with zeros.

    Returns:
        How many tokens there are, and how many were found.
    """
    weight_VD = model.embedding.weight
    found: dict[int, Tensor] = {}
    if config.init == "scaled":
        weight_VD.normal_(std=weight_VD.shape[1] ** -0.5)
    elif config.init == "vectors":
        found = match_words(tokenizer, dict(read_vectors(Path(str(config.path)))))
    elif config.init == "checkpoint":
        found = match_tokens(tokenizer, str(config.path))
    if found:
        rows = torch.tensor(list(found))
        found_NW = torch.stack(list(found.values())).float()
        if (found_NW != found_NW[0]).any():
            found_NW = found_NW - found_NW.mean(0)
        taken_ND = _to_width(found_NW, weight_VD.shape[1])
        size = taken_ND.square().mean().sqrt().clamp_min(1e-12)
        taken_ND = taken_ND * (weight_VD.std() / size)
        weight_VD[rows.to(weight_VD.device)] = taken_ND.to(weight_VD)
    elif config.init in ("vectors", "checkpoint"):
        raise CheckpointError("holds none of the tokeniser's tokens", field="embeddings.path", value=config.path)
    return {"tokens": tokenizer.vocab_size, "found": len(found)}


def match_words(tokenizer: Tokenizer, vectors: dict[str, Tensor]) -> dict[int, Tensor]:
    """The vector of every token that is a word there, its leading space apart; else of its lower-case form."""
    found = {}
    for id in range(tokenizer.vocab_size):
        word = tokenizer.token_text(id).strip().removeprefix("##")
        vector = vectors.get(word, vectors.get(word.lower()))
        if word and vector is not None:
            found[id] = vector
    return found


def match_tokens(tokenizer: Tokenizer, spec: str) -> dict[int, Tensor]:
    """The row of every token that another checkpoint has too, byte for byte."""
    other = load(spec, dtype="float32", device="cpu")
    theirs = {other.tokenizer.token_bytes(id): id for id in reversed(range(other.tokenizer.vocab_size))}
    weight_VD = other.model.embedding.weight.detach()
    pairs = ((id, theirs.get(tokenizer.token_bytes(id))) for id in range(tokenizer.vocab_size))
    return {id: weight_VD[theirs_id] for id, theirs_id in pairs if theirs_id is not None and tokenizer.token_bytes(id)}


def read_vectors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Words and their vectors (W) from a text file (word2vec, GloVe, fastText .vec) or a binary one (word2vec .bin).

    Raises:
        DataError: the file is missing, cut short or of another kind; where.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
            if path.suffix == ".bin":
                yield from _binary(file, first, path)
                return
            yield from _text(file, first, path)
    except OSError as err:
        raise DataError(f"cannot be read: {err.strerror}", field="embeddings.path", value=str(path)) from None


def _text(file: Any, first: bytes, path: Path) -> Iterator[tuple[str, Tensor]]:
    header = len(first.split()) == 2  # GloVe's files have none
    width = None
    for number, line in enumerate(file if header else [first, *file], 2 if header else 1):
        word, *numbers = line.rstrip().rsplit(b" ") if width is None else line.rstrip().rsplit(b" ", width)
        try:
            vector = np.array(numbers, dtype=np.float32)
            text = word.decode("utf-8")
        except (ValueError, UnicodeDecodeError):
            raise _damaged(path, f"line {number} is no word with numbers") from None
        width = width or len(vector)
        if len(vector) != width or not width or not np.isfinite(vector).all():
            raise _damaged(path, f"line {number} has no {width} finite numbers")
        yield text, torch.from_numpy(vector)


def _binary(file: Any, first: bytes, path: Path) -> Iterator[tuple[str, Tensor]]:
    parts = first.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not 0 < int(parts[1]) <= _MAX_WIDTH:
        raise _damaged(
            path, "does not begin with a count and a width (fastText's own .bin has another format: use its .vec)"
        )
    count, width = map(int, parts)
    for number in range(count):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte if byte != b"\n" else b""
        data = file.read(4 * width)
        if len(data) < 4 * width:
            raise _damaged(path, f"ends within vector {number + 1} of {count}")
        vector = np.frombuffer(data, np.float32).copy()
        if not np.isfinite(vector).all():
            raise _damaged(path, f"vector {number + 1} is not finite")
        yield word.decode("utf-8", "replace"), torch.from_numpy(vector)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(what, field="embeddings.path", value=str(path))


def _to_width(rows_NW: Tensor, D: int) -> Tensor:
    if rows_NW.shape[1] == D:
        return rows_NW
    axes_WW = torch.linalg.eigh(rows_NW.T @ rows_NW).eigenvectors.flip(1)  # largest variance first
    turned_NW = rows_NW @ axes_WW
    return torch.nn.functional.pad(turned_NW, (0, max(0, D - turned_NW.shape[1])))[:, :D]
