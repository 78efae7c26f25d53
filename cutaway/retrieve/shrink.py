"""Shorter vectors for an index: the directions in which its own vectors vary most (principal components).

The mean is not taken off before vectors are turned: that would change their cosines, and on Cranfield it cost what
shortening to a third did not (nDCG@10 of 0.400 whole, 0.400 at 128 of 384, 0.382 there if centred).

N vectors, D their width, K the shorter one.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cutaway.core.errors import ConfigError
from cutaway.core.files import new_folder
from cutaway.lens.pca import pca
from cutaway.retrieve.store import Store
from cutaway.retrieve.vectors import ExactVectors

_WHOLE, _SHRUNK = "lance", "shrunk"  # in the folder of an index
_FILE = "projection.safetensors"
_PASSAGES_PER_DIMENSION = 4  # at the least: directions that few passages show are chance
_QUERIES = 200  # vectors whose neighbours are compared


@dataclass(frozen=True)
class Projection:
    """Turns vectors of length one into shorter ones of length one.

    Args:
        directions_KD: orthonormal rows.
    """

    directions_KD: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        """N × K."""
        return normalize(x_ND @ self.directions_KD.T, dim=-1)

    def save(self, folder: Path) -> None:
        """Into a folder that is being made."""
        from safetensors.torch import save_file

        save_file({"directions": self.directions_KD.contiguous()}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> "Projection":
        """What `save` wrote."""
        from safetensors.torch import load_file

        return cls(load_file(folder / _FILE)["directions"])


def check_dimensions(dimensions: int | None, width: int) -> None:
    """Refuse a length that is not shorter than the encoder's vectors."""
    if dimensions is not None and not 1 <= dimensions < width:
        raise ConfigError(
            "must be shorter than the encoder's vectors", field="dimensions", value=dimensions, hint=f"1 to {width - 1}"
        )


def fit(vectors_ND: Tensor, K: int) -> Projection:
    """The projection to the first K principal components."""
    return Projection(pca(vectors_ND, K).components_KD)


def neighbours_kept(whole_ND: Tensor, projection: Projection, k: int = 10) -> float:
    """The share of vectors' k nearest others that are still among them when shortened, over some vectors as queries."""
    k = min(k, len(whole_ND) - 1)
    rows = torch.linspace(0, len(whole_ND) - 1, min(_QUERIES, len(whole_ND))).long().tolist()
    before, after = (_nearest(vectors_ND, rows, k) for vectors_ND in (whole_ND, projection(whole_ND)))
    return sum(len(one & other) for one, other in zip(before, after, strict=True)) / (k * len(rows))


def _nearest(vectors_ND: Tensor, rows: list[int], k: int) -> list[set[int]]:
    """The k nearest other vectors of each of these rows."""
    search = ExactVectors(vectors_ND)
    found = (search.search(vectors_ND[row], k + 1)[1].tolist() for row in rows)
    return [set([other for other in near if other != row][:k]) for row, near in zip(rows, found, strict=True)]


def is_shrunk(folder: Path) -> bool:
    """Whether the index in this folder searches shortened vectors."""
    return (folder / _SHRUNK).exists()


def open_store(folder: Path, width: int) -> tuple[Store, Projection | None]:
    """The table that an index searches: the shortened one with its projection where there is one, else the encoder's own."""
    if not is_shrunk(folder):
        return Store(folder / _WHOLE, width), None
    projection = Projection.load(folder / _SHRUNK)
    return Store(folder / _SHRUNK / "lance", len(projection.directions_KD)), projection


def shrink(folder: Path, store: Store, K: int) -> float | None:
    """Shorten all vectors of an index, in one step; None where there are not enough of them yet.

    The whole ones stay for who is reading them, until `forget_whole`.

    Returns:
        The share of neighbours that are kept.
    """
    if store.size < _PASSAGES_PER_DIMENSION * K:
        return None
    _, whole_ND = store.read()
    projection = fit(whole_ND, K)
    with new_folder(folder / _SHRUNK) as temporary:
        projection.save(temporary)
        store.copy_to(temporary / "lance", K, projection)
    return neighbours_kept(whole_ND, projection)


def forget_whole(folder: Path) -> None:
    """Remove the encoder's own vectors, once there are shortened ones."""
    shutil.rmtree(folder / _WHOLE, ignore_errors=True)
