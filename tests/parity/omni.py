"""The multimodal decoder against transformers' Llama with the same weights, on embeddings that are written out here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from cutaway.models.omni import Omni, OmniConfig
from cutaway.nn.media import MediaConfig
from tests.parity.sides import Kind, Outputs, Texts, randomise

V, T, TOKENS = 61, 19, 12
SMALL = dict(vocab_size=V, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=6)
SMALL |= dict(num_key_value_heads=3, max_position_embeddings=64, tie_word_embeddings=False)
CASES = {
    "text, patches, sounds, frames": {},
    "one head, tied": dict(num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=True),
}


@dataclass(frozen=True)
class Inputs:
    ids: Tensor
    features: Tensor
    places: Tensor


class LlamaWithSenses(nn.Module):
    """transformers' decoder with the weights of ours, and ours's own for media."""

    def __init__(self, model: Omni):
        super().__init__()
        self.config, self.senses = model.config, model.senses
        asked = {name: getattr(model.config, name) for name in SMALL}
        self.llama = LlamaForCausalLM(
            LlamaConfig(**asked, rms_norm_eps=model.config.rms_norm_eps, pad_token_id=0)
        ).eval()
        state = {name: weight for name, weight in model.state_dict().items() if not name.startswith("senses")}
        self.llama.load_state_dict(state)

    def embeddings(self, given: Inputs) -> Tensor:
        c, media, senses = self.config, self.config.media, self.senses
        rows = []
        for ids, features, places in zip(given.ids.tolist(), given.features, given.places.tolist(), strict=True):
            for id, feature, place in zip(ids, features, places, strict=True):
                x = self.llama.model.embed_tokens.weight[id]
                if id in (c.image_token_id, c.video_token_id):
                    frame, patch = divmod(place, media.patches)
                    x = x + senses.patch.weight @ feature[: media.patch_width] + senses.patch.bias
                    x = x + senses.patch_position.weight[patch] + senses.frame_position.weight[frame]
                elif id == c.audio_token_id:
                    x = x + senses.sound.weight @ feature[: media.sound_width] + senses.sound.bias
                rows.append(x)
        return torch.stack(rows).view(*given.ids.shape, -1)


def make(over: dict[str, Any], folder: Path) -> tuple[Omni, LlamaWithSenses]:
    ours = Omni(OmniConfig(**{**SMALL, **over}, media=MediaConfig())).eval()
    randomise(ours)
    return ours, LlamaWithSenses(ours).eval()


def inputs(theirs: LlamaWithSenses) -> Inputs:
    media = theirs.config.media
    ids = torch.randint(4, V, (2, T))
    ids[0, 3:7], ids[0, 9:11], ids[1, :5] = (
        theirs.config.image_token_id,
        theirs.config.audio_token_id,
        theirs.config.video_token_id,
    )
    width = max(media.patch_width, media.sound_width)
    places = torch.randint(media.patches, (2, T))
    places[1, 3:5] += media.patches  # the second frame
    return Inputs(ids, torch.randn(2, T, width), places)


def ours(model: Omni, given: Inputs) -> Outputs:
    return {"logits": model.logits(model(given.ids, features_BTF=given.features, places_BT=given.places))}


def theirs(model: LlamaWithSenses, given: Inputs) -> Outputs:
    return {"logits": model.llama(inputs_embeds=model.embeddings(given)).logits}


def write(ours: Omni, theirs: LlamaWithSenses, given: Inputs) -> tuple[Texts, Texts]:
    """Ours with the cache, a token at a time after the media."""
    cache, written = ours.new_cache(2, T + TOKENS), []
    h = ours(given.ids, features_BTF=given.features, places_BT=given.places, cache=cache)
    for _ in range(TOKENS):
        written.append(ours.logits(h[:, -1:]).argmax(-1))
        h = ours(written[-1], cache=cache)
    embedded = theirs.embeddings(given)
    real = torch.ones(embedded.shape[:2], dtype=torch.int64)
    asked = dict(max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, eos_token_id=None)
    expected = theirs.llama.generate(inputs_embeds=embedded, attention_mask=real, **asked)
    return torch.cat(written, 1).tolist(), expected.tolist()


KIND = Kind("transformers' Llama on embeddings written out", CASES, make, inputs, ours, theirs, None, write)
