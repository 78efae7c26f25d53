"""Nine ways to look at a model on an input, each as a table, plain data and a picture.

view = VIEWS["activations"](loaded, x)      x: as `lens.inputs` reads a text, a file or parts
view.columns, view.rows      what is printed
view.data                    the same and more, as plain values (JSON)
view.draw()                  a matplotlib figure
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from cutaway.core.errors import ConfigError, RequestError
from cutaway.lens import figures
from cutaway.lens.activations import activations
from cutaway.lens.attention import named_maps
from cutaway.lens.expert_load import expert_load
from cutaway.lens.gradient_norms import gradient_norms
from cutaway.lens.hooks import capture
from cutaway.lens.jacobian import cuts, jacobian_at, spectral_norm, vjp
from cutaway.lens.layers import Input, block_names, ids_of, is_medium, layer_names, layer_output, read_input
from cutaway.lens.neighbours import neighbours
from cutaway.lens.parts import Parts
from cutaway.lens.pca import anisotropy, pca
from cutaway.lens.spectrum import weight_spectra
from cutaway.lens.units import unit_activity
from cutaway.models.load import Loaded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HARDLY_MOVES = 0.01  # of the root mean square; for GELU and SiLU, which are never quite zero
_POWER_STEPS = 40  # of the spectral norm in a table of all layers, which is read to two digits


@dataclass(frozen=True)
class View:
    """What a way of looking found; see the top of this file."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    data: dict[str, Any]
    draw: Callable[[], "Figure"]


def view_activations(loaded: Loaded, x: Input) -> View:
    """Mean, spread, largest magnitude and share of zeros, by block and kind of module."""
    found = [asdict(row) for row in activations(loaded.model, x)]
    columns = ("layer", "kind", "mean", "std", "largest", "zeros")
    rows = [tuple(row[name] for name in columns) for row in found]
    return View("activations", columns, rows, {"activations": found}, lambda: figures.draw_activations(found))


def view_gradients(loaded: Loaded, x: Input) -> View:
    """Gradient norms of the text's loss, by block and position."""
    found = gradient_norms(loaded.model, x)
    stream = found.stream_LT.tolist()
    data: dict[str, Any] = {
        "loss": found.loss,
        "layers": found.layers,
        "tokens": _words(loaded, x, len(found.embedding_T)),
        "weights": found.weights,
        "stream": stream,
        "embedding": found.embedding_T.tolist(),
    }
    rows = [
        (layer, norm, sum(row) / len(row), max(row), data["tokens"][row.index(max(row))])
        for layer, (norm, row) in enumerate(zip(found.weights, stream, strict=True), 1)
    ]
    columns = ("layer", "by its weights", "by its output, mean", "largest", "at token")
    title = f"gradient norms of a loss of {found.loss:.4f} nats per token"
    return View(title, columns, rows, data, lambda: figures.draw_gradients(data))


def view_jacobian(loaded: Loaded, x: Input) -> View:
    """Of each block on the whole text: the spectral norm; at the last position: the singular values, D of them.

    And one vector-Jacobian product: how much the length of the last position's output depends on each position of the input.
    """
    found: list[dict[str, Any]] = []
    names = block_names(loaded.model, x)
    blocks = cuts(loaded.model, x, names, torch.float32)
    for layer, (name, cut) in enumerate(zip(names, blocks, strict=True), 1):
        values = torch.linalg.svdvals(jacobian_at(cut.function, cut.x, cut.x.shape[1] - 1))
        output = cut.function(cut.x)
        u = torch.zeros_like(output)
        u[:, -1] = functional.normalize(output[:, -1], dim=-1)
        found.append(
            {
                "layer": layer,
                "name": name,
                "spectral_norm": spectral_norm(cut.function, cut.x, steps=_POWER_STEPS, tolerance=1e-3),
                "at_last_position": values.tolist(),
                "vjp_by_position": vjp(cut.function, cut.x, u)[0].norm(dim=-1).tolist(),
            }
        )
    rows = []
    for row in found:
        values = row["at_last_position"]
        rows.append((row["layer"], row["spectral_norm"], values[0], values[len(values) // 2], values[-1]))
    columns = ("layer", "spectral norm", "largest at last position", "median", "smallest")
    data: dict[str, Any] = {"tokens": _words(loaded, x, len(found[-1]["vjp_by_position"])), "blocks": found}
    return View("Jacobians of the blocks", columns, rows, data, lambda: figures.draw_jacobian(data))


def view_attention(loaded: Loaded, x: Input) -> View:
    """Every head's map; in the table how many bits its rows spread over, and the weight on the first and on the own position."""
    maps = {name: weights[0] for name, weights in named_maps(loaded.model, x).items()}
    rows = []
    for name, weights_HTS in maps.items():
        spread_H = torch.special.entr(weights_HTS).sum(-1).mean(-1) / math.log(2)
        first_H, own_H = weights_HTS[..., 0].mean(-1), weights_HTS.diagonal(dim1=-2, dim2=-1).mean(-1)
        numbers = zip(spread_H.tolist(), first_H.tolist(), own_H.tolist(), strict=True)
        rows += [(name, head, *three) for head, three in enumerate(numbers)]
    data: dict[str, Any] = {
        "tokens": _words(loaded, x, next(iter(maps.values())).shape[-1]),
        "maps": [{"name": name, "weights": weights.tolist()} for name, weights in maps.items()],
    }
    columns = ("module", "head", "entropy, bits", "on the first position", "on its own")
    return View("attention maps", columns, rows, data, lambda: figures.draw_attention(data["maps"]))


@torch.inference_mode()
def view_pca(loaded: Loaded, x: Input) -> View:
    """How many directions the hidden states take, layer by layer, and whether they all point the same way."""
    model, names = loaded.model, layer_names(loaded.model, x)
    with capture(model, names) as calls:
        read_input(model, x)
    states = {name: layer_output(calls[name]).flatten(0, -2) for name in names}
    if not is_medium(x):
        first = calls[names[0]].inputs[0][0] if isinstance(x, Parts) else model.embedding(x[0])
        states = {"embedding": first, **states}
    found: list[dict[str, Any]] = []
    for layer, (name, x_TD) in enumerate(states.items(), int(is_medium(x))):
        parts = pca(x_TD)
        explained = parts.explained
        found.append(
            {
                "layer": layer,
                "name": name,
                "explained": explained.tolist(),
                "components_for_90": int((explained.cumsum(0) < 0.9).sum()) + 1,
                "anisotropy": anisotropy(x_TD),
                "first_two": parts.project(x_TD)[:, :2].tolist(),
            }
        )
    columns = ("layer", "first", "second", "third", "components for 90 %", "mean cosine")
    rows = [
        (row["layer"], *(row["explained"] + [0.0] * 3)[:3], row["components_for_90"], row["anisotropy"])
        for row in found
    ]
    data: dict[str, Any] = {"tokens": _words(loaded, x, len(x_TD)), "layers": found}
    title = "share of the variance along principal components (layer 0: the embedding)"
    return View(title, columns, rows, data, lambda: figures.draw_pca(data))


def view_spectrum(loaded: Loaded, x: Input) -> View:
    """Singular values of every weight matrix; the input plays no part."""
    found: list[dict[str, Any]] = [
        {
            "name": row.name,
            "shape": row.shape,
            "values": row.values.tolist(),
            "effective_rank": row.effective_rank,
            "stable_rank": row.stable_rank,
        }
        for row in weight_spectra(loaded.model)
    ]
    columns = ("matrix", "shape", "largest", "median", "effective rank", "stable rank")
    rows = [
        (
            row["name"],
            "{} × {}".format(*row["shape"]),
            row["values"][0],
            row["values"][len(row["values"]) // 2],
            row["effective_rank"],
            row["stable_rank"],
        )
        for row in found
    ]
    return View("weight spectra", columns, rows, {"matrices": found}, lambda: figures.draw_spectrum(found))


def view_units(loaded: Loaded, x: Input) -> View:
    """Feed-forward units that the text never wakes."""
    found: list[dict[str, Any]] = [
        {
            "layer": row.layer,
            "name": row.name,
            "tokens": row.tokens,
            "units": len(row.active_F),
            "dead": row.dead,
            "activity": row.active_F.tolist(),
        }
        for row in unit_activity(loaded.model, x, threshold=_HARDLY_MOVES)
    ]
    columns = ("layer", "module", "tokens", "units", "dead", "mean activity")
    rows = [
        (row["layer"], row["name"], row["tokens"], row["units"], len(row["dead"]), sum(row["activity"]) / row["units"])
        for row in found
    ]
    title = f"units that move more than {_HARDLY_MOVES:g} of their token's root mean square"
    return View(title, columns, rows, {"networks": found}, lambda: figures.draw_units(found))


def view_experts(loaded: Loaded, x: Input) -> View:
    """The share of the text's tokens that each expert got."""
    found = {name: load.tolist() for name, load in expert_load(loaded.model, x).items()}
    columns = ("module", "experts", "most", "least", "unused", "effective number")
    rows = [
        (
            name,
            len(load),
            max(load),
            min(load),
            load.count(0.0),
            float(torch.special.entr(torch.tensor(load)).sum().exp()),
        )
        for name, load in found.items()
    ]
    return View("expert load", columns, rows, {"load": found}, lambda: figures.draw_experts(found))


def view_neighbours(loaded: Loaded, x: Input) -> View:
    """For each token of the text, the tokens whose embeddings point the same way."""
    if not hasattr(loaded.model, "embedding"):
        family = loaded.model.config.model_type
        raise ConfigError(f"a model of the family {family} has no token embedding", field="model")
    if is_medium(x):
        raise ConfigError("only tokens of a text have neighbours", field="--what", value="neighbours")
    if not ids_of(x).numel():
        raise RequestError("holds no token", field="text")
    embedding_VD = loaded.model.embedding.weight
    k = min(8, len(embedding_VD) - 1)
    found: list[dict[str, Any]] = []
    for id in dict.fromkeys(x.text_ids if isinstance(x, Parts) else ids_of(x)[0].tolist()):
        near = [{**asdict(one), "text": _word(loaded, one.id)} for one in neighbours(embedding_VD, id, k)]
        found.append({"id": id, "text": _word(loaded, id), "neighbours": near})
    rows = [
        (row["id"], row["text"], "  ".join(f"{one['text']} {one['cosine']:.2f}" for one in row["neighbours"]))
        for row in found
    ]
    columns = ("id", "token", "nearest, with the cosine")
    return View("neighbours in the embedding", columns, rows, {"tokens": found}, lambda: figures.draw_neighbours(found))


VIEWS: dict[str, Callable[[Loaded, Input], View]] = {
    "activations": view_activations,
    "attention": view_attention,
    "gradients": view_gradients,
    "jacobian": view_jacobian,
    "pca": view_pca,
    "spectrum": view_spectrum,
    "units": view_units,
    "experts": view_experts,
    "neighbours": view_neighbours,
}


def _words(loaded: Loaded, x: Input, positions: int) -> list[str]:
    """The tokens of a text; of a medium the number of each position, from 0."""
    if is_medium(x):
        return [str(position) for position in range(positions)]
    ids = ids_of(x)[0].tolist()
    media = x.media if isinstance(x, Parts) else ("",) * len(ids)
    return [medium or _word(loaded, id) for id, medium in zip(ids, media, strict=True)]


def _word(loaded: Loaded, id: int) -> str:
    """A token as it can stand in a table; a vocabulary may be padded beyond its tokeniser's."""
    known = id < loaded.tokenizer.vocab_size
    return repr(loaded.tokenizer.token_text(id))[1:-1] if known else f"<{id}>"
