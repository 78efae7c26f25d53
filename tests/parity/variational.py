"""The two variational auto-encoders against their equations: numpy for vectors, `recurrent`'s cells for sentences.

z is the mean, so that nothing is drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.models.text_vae import TextVAE, TextVAEConfig
from cutaway.models.vae import VAE, VAEConfig
from tests.parity.recurrent import Equations
from tests.parity.sides import Kind, Outputs, Texts, randomise

OF_VECTORS = {
    "plain": dict(vector_size=9, latent_size=3, hidden_sizes=(7,)),
    "two layers": dict(vector_size=9, latent_size=2, hidden_sizes=(8, 5)),
    "linear": dict(vector_size=6, latent_size=4, hidden_sizes=()),
}
OF_SENTENCES = {"plain": {}, "untied": dict(tie_word_embeddings=False), "one latent": dict(latent_size=1)}
V, START = 31, 1


def make_of_vectors(shape: dict[str, Any], folder: Path) -> tuple[VAE, dict[str, np.ndarray]]:
    ours = VAE(VAEConfig(**shape)).eval()
    randomise(ours)
    return ours, {name: weight.detach().numpy() for name, weight in ours.named_parameters()}


def vectors(weights: dict[str, np.ndarray]) -> Tensor:
    encoder = weights.get("encoder.0.weight", weights["head.mean.weight"])
    return torch.rand(5, encoder.shape[1])


def of_vectors(model: VAE, x: Tensor) -> Outputs:
    mean, logvar = model.encode(x)
    return {"logits": model.decode(mean), "mean": mean, "log-variance": logvar}


def numpy_s(weights: dict[str, np.ndarray], x: Tensor) -> Outputs:
    def layer(name: str, value: np.ndarray) -> np.ndarray:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def layers(side: str) -> list[str]:
        return [name.removesuffix(".weight") for name in weights if name.startswith(side) and name.endswith("weight")]

    h = x.numpy()
    for name in layers("encoder"):
        h = np.tanh(layer(name, h))
    mean, logvar = layer("head.mean", h), layer("head.logvar", h)
    *inner, last = layers("decoder")
    h = mean
    for name in inner:
        h = np.tanh(layer(name, h))
    found = {"logits": layer(last, h), "mean": mean, "log-variance": logvar}
    return {name: torch.from_numpy(value) for name, value in found.items()}


class SentenceEquations(Equations):
    """Bowman et al. 2016: a GRU reads, another writes; z begins it and stands beside each word."""

    def __init__(self, model: TextVAE):
        self.w, self.lm_head = dict(model.named_parameters()), model.lm_head.weight
        self.config = type("", (), {"cell": "gru"})

    def encode(self, ids: list[int]) -> Tensor:
        h = torch.zeros(self.lm_head.shape[1])
        for id in ids:
            h, _ = self.cell("encoder", "", self.w["embedding.weight"][id], (h, h))
        return h

    def head(self, name: str, h: Tensor) -> Tensor:
        return self.w[f"head.{name}.weight"] @ h + self.w[f"head.{name}.bias"]

    def decode(self, ids: list[int], z: Tensor) -> Tensor:
        h = (self.w["first_state.weight"] @ z + self.w["first_state.bias"]).tanh()
        logits = []
        for id in ids:
            h, _ = self.cell("decoder", "", torch.cat([self.w["embedding.weight"][id], z]), (h, h))
            logits.append(self.lm_head @ h)
        return torch.stack(logits)


def make_of_sentences(over: dict[str, Any], folder: Path) -> tuple[TextVAE, SentenceEquations]:
    ours = TextVAE(TextVAEConfig(**{"vocab_size": V, "hidden_size": 12, "latent_size": 5, **over})).eval()
    randomise(ours)
    return ours, SentenceEquations(ours)


def sentences(theirs: SentenceEquations) -> Tensor:
    return torch.randint(V, (3, 7))


def of_sentences(model: TextVAE, ids: Tensor) -> Outputs:
    mean, logvar = model.encode(ids)
    return {"logits": model.logits(model.decode(mean, ids)[0]), "mean": mean, "log-variance": logvar}


def equations_say(model: SentenceEquations, ids: Tensor) -> Outputs:
    read = [model.encode(row) for row in ids.tolist()]
    means = [model.head("mean", h) for h in read]
    return {
        "logits": torch.stack([model.decode(row, z) for row, z in zip(ids.tolist(), means, strict=True)]),
        "mean": torch.stack(means),
        "log-variance": torch.stack([model.head("logvar", h) for h in read]),
    }


def write(ours: TextVAE, theirs: SentenceEquations, ids: Tensor) -> tuple[Texts, Texts]:
    found = ours.write(ours.encode(ids)[0], START, 12)
    expected = []
    for row in ids.tolist():
        z, written = theirs.head("mean", theirs.encode(row)), [START]
        for _ in range(12):
            written.append(int(theirs.decode(written, z)[-1].argmax()))
        expected.append(written[1:])
    return found.tolist(), expected


VECTORS = Kind("the paper's equations in numpy", OF_VECTORS, make_of_vectors, vectors, of_vectors, numpy_s)
SENTENCES = Kind(
    "the paper's equations, step by step",
    OF_SENTENCES,
    make_of_sentences,
    sentences,
    of_sentences,
    equations_say,
    write=write,
)
