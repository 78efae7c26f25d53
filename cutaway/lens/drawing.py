"""A token report as a picture: where the last position looked, by layer, and how the layers arrived at the token."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST_TOKENS = 40  # more would not be legible


def draw_report(report: Mapping[str, Any]) -> "Figure":
    """Two panels: attention by layer (the mean over heads) and token, and the logit lens by layer."""
    from matplotlib.figure import Figure

    weights_LS = np.array(report["attention"]).mean(1)[:, -LAST_TOKENS:]
    words = [repr(token["text"])[1:-1] for token in report["tokens"]][-LAST_TOKENS:]
    figure = Figure(figsize=(max(7.0, 0.3 * len(words)), 8), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 2))
    image = top.imshow(weights_LS, aspect="auto", cmap="viridis", vmin=0)
    figure.colorbar(image, ax=top, label="attention, mean over heads")
    top.set_xticks(range(len(words)), words, rotation=90)
    top.set(ylabel="layer", title=f"before {report['token']['text']!r} (probability {report['probability']:.3g})")
    layers = [reading["layer"] for reading in report["logit_lens"]]
    bottom.plot(layers, [reading["chosen"] for reading in report["logit_lens"]], label="the token")
    bottom.plot(layers, [reading["top"][0]["probability"] for reading in report["logit_lens"]], label="the likeliest")
    bottom.set(xlabel="layer", ylabel="probability by the logit lens", ylim=(0, 1))
    bottom.legend()
    return figure
