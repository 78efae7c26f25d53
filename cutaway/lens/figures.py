"""The pictures of `views`, each from the plain data alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LABELS = 60  # tokens under an axis; more would not be legible


def draw_activations(found: Sequence[Mapping[str, Any]]) -> "Figure":
    """Spread and largest magnitude by layer, one line per kind of module."""
    figure, (left, right) = _panels(2)
    for kind in dict.fromkeys(row["kind"] for row in found):
        of_kind = [row for row in found if row["kind"] == kind]
        layers = [row["layer"] for row in of_kind]
        left.semilogy(layers, [row["std"] for row in of_kind], marker=".", label=kind)
        right.semilogy(layers, [row["largest"] for row in of_kind], marker=".", label=kind)
    left.set(xlabel="layer", ylabel="standard deviation")
    right.set(xlabel="layer", ylabel="largest magnitude")
    right.legend()
    return figure


def draw_attention(found: Sequence[Mapping[str, Any]]) -> "Figure":
    """Every head's map in one picture: a row for each module, a column for each head, each over its largest weight."""
    maps = [np.array(row["weights"]) for row in found]
    H, T, S = (max(sizes) for sizes in zip(*(heads.shape for heads in maps), strict=True))
    canvas = np.full((len(maps) * (T + 1), H * (S + 1)), np.nan)
    for row, heads in enumerate(maps):
        for column, weights in enumerate(heads):
            t, s = row * (T + 1), column * (S + 1)
            canvas[t : t + weights.shape[0], s : s + weights.shape[1]] = weights / weights.max()
    figure, (panel,) = _panels(1)
    panel.imshow(canvas, aspect="auto", interpolation="nearest")
    panel.set(xlabel="head", ylabel="layer of attention")
    panel.set_xticks(np.arange(H) * (S + 1) + S / 2, [str(head) for head in range(H)])
    panel.set_yticks(np.arange(len(maps)) * (T + 1) + T / 2, [str(layer + 1) for layer in range(len(maps))])
    return figure


def draw_gradients(data: Mapping[str, Any]) -> "Figure":
    """The norm by each block's output, by layer and position; beside it that by the block's weights."""
    figure, (left, right) = _panels(2, widths=(3, 1))
    norms_LT = np.array(data["stream"])
    lowest = norms_LT[norms_LT > 0].min(initial=1.0)
    L, T = norms_LT.shape
    image = left.imshow(
        np.log10(np.maximum(norms_LT, lowest)), aspect="auto", origin="lower", extent=(-0.5, T - 0.5, 0.5, L + 0.5)
    )
    figure.colorbar(image, ax=left, label="log10 of the norm by the output")
    left.set(ylabel="layer")
    _name_ticks(left, data["tokens"])
    right.plot(data["weights"], range(1, L + 1), marker=".")
    right.set(xlabel="norm by the weights", ylabel="layer")
    return figure


def draw_jacobian(data: Mapping[str, Any]) -> "Figure":
    """The singular values at the last position, one line per block; the largest of each; what the last position depends on."""
    figure, (left, middle, right) = _panels(3)
    found = data["blocks"]
    for row, colour in zip(found, _shades(len(found)), strict=True):
        left.semilogy(row["at_last_position"], color=colour)
        right.semilogy(row["vjp_by_position"], color=colour, marker=".", linewidth=0.7)
    left.axhline(1, color="grey", linewidth=0.8)
    left.set(xlabel="index (dark: first layer)", ylabel="singular value at the last position")
    layers = [row["layer"] for row in found]
    middle.semilogy(layers, [row["spectral_norm"] for row in found], marker=".", label="whole text")
    middle.semilogy(layers, [row["at_last_position"][0] for row in found], marker=".", label="last position")
    middle.set(xlabel="layer", ylabel="largest singular value")
    middle.legend()
    right.set(ylabel="what moves the last output's length")
    _name_ticks(right, data["tokens"])
    return figure


def draw_pca(data: Mapping[str, Any]) -> "Figure":
    """Variance kept by the first components, mean cosine by layer, and the last layer's tokens in its first two components."""
    figure, (left, middle, right) = _panels(3)
    layers = data["layers"]
    for row, colour in zip(layers, _shades(len(layers)), strict=True):
        left.plot(range(1, len(row["explained"]) + 1), np.cumsum(row["explained"]), color=colour)
    left.set(xlabel="components (dark: first layer)", ylabel="variance kept", ylim=(0, 1.02))
    middle.plot([row["layer"] for row in layers], [row["anisotropy"] for row in layers], marker=".")
    middle.set(xlabel="layer", ylabel="mean cosine")
    points = np.array([[*point, 0.0][:2] for point in layers[-1]["first_two"]])
    right.scatter(points[:, 0], points[:, 1], s=8)
    for (x, y), word in list(zip(points, data["tokens"], strict=True))[:_MOST_LABELS]:
        right.annotate(_plain(word), (x, y), fontsize=7)
    right.set(xlabel="first component, last layer", ylabel="second component")
    return figure


def draw_spectrum(found: Sequence[Mapping[str, Any]]) -> "Figure":
    """Singular values over the largest, and the effective rank as a share of the most there could be, by kind of matrix."""
    figure, (left, right) = _panels(2)
    by_kind: dict[str, list[float]] = defaultdict(list)
    for row, colour in zip(found, _shades(len(found)), strict=True):
        left.plot(np.array(row["values"]) / (row["values"][0] or 1), color=colour, linewidth=0.7)
        by_kind[row["name"].rpartition(".")[2]].append(row["effective_rank"] / min(row["shape"]))
    left.set(xlabel="index (dark: first matrix)", ylabel="singular value over the largest", yscale="log")
    for kind, shares in by_kind.items():
        right.plot(range(1, len(shares) + 1), shares, marker=".", label=kind)
    right.set(xlabel="matrix of its kind", ylabel="effective rank over full rank", ylim=(0, 1.02))
    right.legend(fontsize=7)
    return figure


def draw_units(found: Sequence[Mapping[str, Any]]) -> "Figure":
    """Dead units by layer, and how active the others are."""
    figure, (left, right) = _panels(2)
    left.bar(range(1, len(found) + 1), [len(row["dead"]) / row["units"] for row in found])
    left.set(xlabel="feed-forward network", ylabel="share of dead units", ylim=(0, 1))
    for row, colour in zip(found, _shades(len(found)), strict=True):
        right.plot(np.linspace(0, 1, row["units"]), np.sort(row["activity"]), color=colour, linewidth=0.7)
    right.set(xlabel="units, least active first (dark: first network)", ylabel="share of tokens at which active")
    return figure


def draw_experts(found: Mapping[str, Sequence[float]]) -> "Figure":
    """The load of every expert of every layer."""
    figure, (panel,) = _panels(1)
    image = panel.imshow(np.array(list(found.values())), aspect="auto", vmin=0)
    figure.colorbar(image, ax=panel, label="share of assignments")
    panel.set(xlabel="expert", ylabel="layer of experts")
    return figure


def draw_neighbours(found: Sequence[Mapping[str, Any]]) -> "Figure":
    """The cosines of each token's neighbours."""
    figure, (panel,) = _panels(1)
    shown = found[:_MOST_LABELS]
    image = panel.imshow(np.array([[one["cosine"] for one in row["neighbours"]] for row in shown]).T, aspect="auto")
    figure.colorbar(image, ax=panel, label="cosine")
    panel.set(ylabel="neighbour, nearest first")
    _name_ticks(panel, [row["text"] for row in shown])
    return figure


def _panels(n: int, widths: Sequence[float] | None = None) -> tuple["Figure", Sequence["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * n + 1, 4.2), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False, width_ratios=widths)[0]


def _shades(n: int) -> Sequence[Any]:
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.9, n)))


def _name_ticks(panel: "Axes", words: Sequence[str]) -> None:
    if len(words) <= _MOST_LABELS:
        panel.set_xticks(range(len(words)), [_plain(word) for word in words], rotation=90)
    else:
        panel.set_xlabel("position")


def _plain(word: str) -> str:
    """Without what matplotlib would read as a formula."""
    return word.replace("$", r"\$")
