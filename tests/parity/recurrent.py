"""The recurrent encoder-decoder against the papers' equations, one row, one step and one source position at a time.

Gates after Cho et al. 2014 and Hochreiter & Schmidhuber 1997 as torch's documentation writes them, scores after Bahdanau et al.
2015 and Luong et al. 2015.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.models.rnn import RNNConfig, RNNSeq2Seq
from tests.parity.sides import Kind, Outputs, Texts, padded, randomise, up_to_end

V, START, END = 41, 1, 2
CASES = {
    f"{cell}, {score}": dict(cell=cell, attention_score=score)
    for cell in ("gru", "lstm")
    for score in ("none", "additive", "dot")
} | {"one layer, untied": dict(num_layers=1, tie_word_embeddings=False)}
State = tuple[Tensor, Tensor]


class Equations:
    """The model as formulas over its named weights."""

    def __init__(self, model: RNNSeq2Seq):
        self.w, self.config = dict(model.named_parameters()), model.config
        self.lm_head = model.lm_head.weight

    def cell(self, name: str, suffix: str, x: Tensor, state: State) -> State:
        h, c = state
        of_x, of_h = (
            self.w[f"{name}.weight_{kind}_l0{suffix}"] @ value + self.w[f"{name}.bias_{kind}_l0{suffix}"]
            for kind, value in (("ih", x), ("hh", h))
        )
        if self.config.cell == "lstm":
            i, f, g, o = (of_x + of_h).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.chunk(3), of_h.chunk(3)
        z = (z_x + z_h).sigmoid()
        return (1 - z) * (n_x + (r_x + r_h).sigmoid() * n_h).tanh() + z * h, c

    def encode(self, source: list[int]) -> Tensor:
        """What the encoder says of every position, S × D."""
        rows = [self.w["shared.weight"][id] for id in source]
        for layer in range(self.config.num_layers):
            sides = []
            for suffix, order in (("", 1), ("_reverse", -1)):
                zero = torch.zeros(self.config.hidden_size // 2)
                state, said = (zero, zero), []
                for x in rows[::order]:
                    state = self.cell(f"encoder.layers.{layer}", suffix, x, state)
                    said.append(state[0])
                sides.append(said[::order])
            rows = [torch.cat(both) for both in zip(*sides, strict=True)]
        return torch.stack(rows)

    def decode(self, target: list[int], memory: Tensor) -> Tensor:
        """Logits after every token, T × V."""
        D, L = self.config.hidden_size, self.config.num_layers
        final = torch.cat([memory[-1, : D // 2], memory[0, D // 2 :]])
        begun = (self.w["decoder.first_state.weight"] @ final + self.w["decoder.first_state.bias"]).tanh().split(D)
        lstm = self.config.cell == "lstm"
        states = [(begun[layer], begun[L + layer] if lstm else begun[layer]) for layer in range(L)]
        logits = []
        for id in target:
            x = self.w["shared.weight"][id]
            for layer in range(L):
                states[layer] = self.cell(f"decoder.layers.{layer}", "", x, states[layer])
                x = states[layer][0]
            logits.append(self.lm_head @ self.look(x, memory))
        return torch.stack(logits)

    def look(self, h: Tensor, memory: Tensor) -> Tensor:
        score = self.config.attention_score
        if score == "none":
            return h
        if score == "dot":
            scores = torch.stack([h @ m for m in memory])
        else:
            W, U, v = (self.w[f"decoder.look.{name}.weight"] for name in ("query", "key", "attend.v"))
            scores = torch.stack([v[0] @ (W @ h + U @ m).tanh() for m in memory])
        context = sum(w * m for w, m in zip(scores.softmax(0), memory, strict=True))
        return (self.w["decoder.look.combine.weight"] @ torch.cat([context, h])).tanh()


@dataclass(frozen=True)
class Inputs:
    source: Tensor
    real: Tensor
    target: Tensor

    @property
    def sources(self) -> Texts:
        return [row[keep].tolist() for row, keep in zip(self.source, self.real, strict=True)]


def make(over: dict[str, Any], folder: Path) -> tuple[RNNSeq2Seq, Equations]:
    shape = dict(vocab_size=V, hidden_size=14, num_layers=2, decoder_start_token_id=START)
    ours = RNNSeq2Seq(RNNConfig(**{**shape, **over})).eval()
    randomise(ours)
    return ours, Equations(ours)


def inputs(theirs: Equations) -> Inputs:
    return Inputs(*padded([8, 3, 1], 3, V), torch.randint(V, (3, 7)))


def ours(model: RNNSeq2Seq, given: Inputs) -> Outputs:
    memory = model.encode(given.source, mask_BS=given.real)
    return {"logits": model.logits(model(given.target, memory, memory_mask_BS=given.real))}


def theirs(model: Equations, given: Inputs) -> Outputs:
    rows = zip(given.sources, given.target.tolist(), strict=True)
    return {"logits": torch.stack([model.decode(target, model.encode(source)) for source, target in rows])}


def write(ours: RNNSeq2Seq, theirs: Equations, given: Inputs) -> tuple[Texts, Texts]:
    found = translate(ours, given.sources, Beam(width=1), {END}, START, 12)
    expected = []
    for source in given.sources:
        memory, ids = theirs.encode(source), [START]
        for _ in range(12):
            ids.append(int(theirs.decode(ids, memory)[-1].argmax()))
        expected.append(up_to_end(ids[1:], END))
    return [row[0].ids for row in found], expected


KIND = Kind("the papers' equations, step by step", CASES, make, inputs, ours, theirs, None, write)
