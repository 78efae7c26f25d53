"""The original Transformer against torch's layers with the same weights; what enters them is written out here."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.models.transformer import Transformer, TransformerConfig
from tests.parity.sides import Kind, Outputs, Texts, padded, randomise, up_to_end

V = 53
SMALL = dict(
    vocab_size=V,
    hidden_size=24,
    intermediate_size=38,
    num_encoder_layers=2,
    num_decoder_layers=3,
    num_attention_heads=3,
    max_position_embeddings=40,
)
CASES = {
    "the paper's": {},
    "pre-norm": dict(norm="pre"),
    "GELU": dict(hidden_act="gelu", layer_norm_eps=1e-3),
    "learned positions": dict(positions="learned", norm="pre"),
    "two vocabularies": dict(source_vocab_size=31, tie_word_embeddings=False),
}
END = 2


class OfTorch(nn.Module):
    """torch's stacks with our weights, and without the norms that `nn.Transformer` adds at the end of post-norm stacks."""

    def __init__(self, model: Transformer):
        super().__init__()
        self.model, c = model, model.config
        layer = dict(
            d_model=c.hidden_size,
            nhead=c.num_attention_heads,
            dim_feedforward=c.intermediate_size,
            activation=c.hidden_act,
            layer_norm_eps=c.layer_norm_eps,
            batch_first=True,
            norm_first=c.norm == "pre",
        )
        ends = [nn.LayerNorm(c.hidden_size, c.layer_norm_eps) if c.norm == "pre" else None for _ in range(2)]
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**layer), c.num_encoder_layers, ends[0], enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), c.num_decoder_layers, ends[1])
        for theirs, ours in zip(self.encoder.layers, model.encoder_blocks, strict=True):
            fill(theirs, [ours.attention, ours.feed_forward])
        for theirs, ours in zip(self.decoder.layers, model.blocks, strict=True):
            fill(theirs, [ours.attention, ours.cross_attention, ours.feed_forward])
        if c.norm == "pre":
            self.encoder.norm.load_state_dict(model.encoder.norm.state_dict())
            self.decoder.norm.load_state_dict(model.decoder.norm.state_dict())

    def encode(self, source: Tensor, real: Tensor) -> Tensor:
        x = self.placed(source, self.model.source_embedding, self.model.encoder.embed_positions)
        return self.encoder(x, src_key_padding_mask=~real)

    def logits(self, target: Tensor, memory: Tensor, real: Tensor) -> Tensor:
        y = self.placed(target, self.model.embedding, self.model.decoder.embed_positions)
        later = ~torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).tril()
        return self.decoder(y, memory, tgt_mask=later, memory_key_padding_mask=~real) @ self.model.lm_head.weight.T

    def placed(self, ids: Tensor, words: nn.Embedding, places: nn.Embedding | None) -> Tensor:
        """Embeddings times √D plus positions, sections 3.4 and 3.5."""
        D, T = words.weight.shape[1], ids.shape[1]
        waves = [[(math.cos if d % 2 else math.sin)(t / 10000 ** (d // 2 * 2 / D)) for d in range(D)] for t in range(T)]
        return words.weight[ids] * math.sqrt(D) + (torch.tensor(waves) if places is None else places.weight[:T])


def fill(theirs: nn.Module, sub_layers: list[Any]) -> None:
    """Give a layer of torch our weights; sub-layer i has norm i, and the last is the feed-forward."""
    state = {}
    for name, sub_layer in zip(("self_attn", "multihead_attn"), sub_layers[:-1], strict=False):
        ours = sub_layer.inner
        for kind in ("weight", "bias"):
            state[f"{name}.in_proj_{kind}"] = torch.cat([getattr(part, kind) for part in (ours.q, ours.k, ours.v)])
            state[f"{name}.out_proj.{kind}"] = getattr(ours.o, kind)
    for name, part in (("linear1", sub_layers[-1].inner.up), ("linear2", sub_layers[-1].inner.down)):
        state.update({f"{name}.weight": part.weight, f"{name}.bias": part.bias})
    for number, sub_layer in enumerate(sub_layers, 1):
        state.update({f"norm{number}.weight": sub_layer.norm.weight, f"norm{number}.bias": sub_layer.norm.bias})
    theirs.load_state_dict(state)


@dataclass(frozen=True)
class Inputs:
    source: Tensor
    real: Tensor
    target: Tensor


def make(over: dict[str, Any], folder: Path) -> tuple[Transformer, OfTorch]:
    ours = Transformer(TransformerConfig(**{**SMALL, **over})).eval()
    randomise(ours)
    return ours, OfTorch(ours).eval()


def inputs(theirs: OfTorch) -> Inputs:
    return Inputs(*padded([19, 4, 11], 1, 31), torch.randint(V, (3, 13)))


def ours(model: Transformer, given: Inputs) -> Outputs:
    memory = model.encode(given.source, mask_BS=given.real)
    logits = model.logits(model(given.target, memory, memory_mask_BS=given.real))
    return {"memory": memory[given.real], "logits": logits}


def theirs(model: OfTorch, given: Inputs) -> Outputs:
    memory = model.encode(given.source, given.real)
    return {"memory": memory[given.real], "logits": model.logits(given.target, memory, given.real)}


def write(ours: Transformer, theirs: OfTorch, given: Inputs) -> tuple[Texts, Texts]:
    """Ours with the cache; torch reads the whole target again for every token."""
    sources = [row[keep].tolist() for row, keep in zip(given.source, given.real, strict=True)]
    found = translate(ours, sources, Beam(width=1), {END}, 0, 20)
    memory, ids = theirs.encode(given.source, given.real), torch.zeros(len(sources), 1, dtype=torch.int64)
    for _ in range(20):
        ids = torch.cat([ids, theirs.logits(ids, memory, given.real)[:, -1:].argmax(-1)], 1)
    return [row[0].ids for row in found], [up_to_end(row[1:].tolist(), END) for row in ids]


KIND = Kind("torch.nn's encoder and decoder layers", CASES, make, inputs, ours, theirs, None, write)
