"""How many parameters a model has, by what they do. Works on any device, `meta` and fake tensors too."""

from collections import Counter
from typing import Any

from torch import nn

from cutaway.nn.experts import expert_layers
from cutaway.train.blocks import all_blocks


def count_parameters(model: Any) -> dict[str, Any]:
    """Parameters: all, those that train, those that one token goes through, and by part.

    A matrix that two modules share counts once. Of experts, a token goes through k of E.
    """
    part_of = _parts(model)
    share = active_shares(model)
    by_part: Counter[str] = Counter()
    for name, weight in model.named_parameters():
        by_part[part_of[name]] += weight.numel()
    return {
        "all": sum(by_part.values()),
        "trained": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "active": round(sum(weight.numel() * share.get(id(weight), 1.0) for weight in model.parameters())),
        "by_part": dict(by_part),
    }


def active_shares(model: nn.Module) -> dict[int, float]:
    """Of every weight of an expert, by its `id`, the share of tokens that go through it when the load is even: k of E."""
    return {
        id(weight): layer.k / len(layer.experts)
        for layer in expert_layers(model).values()
        for weight in layer.experts.parameters()
    }


def _parts(model: Any) -> dict[str, str]:
    """The part that each parameter belongs to, by its name."""
    blocks = {id(weight) for block in all_blocks(model) for weight in block.parameters()}
    experts = active_shares(model)
    found = {}
    for name, weight in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if "lora_" in name:
            found[name] = "adapters"
        elif isinstance(owner, nn.Embedding):
            found[name] = "embeddings"
        elif "Norm" in type(owner).__name__:
            found[name] = "norms"
        elif id(weight) not in blocks:
            found[name] = "head"
        elif id(weight) in experts:
            found[name] = "experts"
        else:
            found[name] = "attention" if "attn" in name or "attention" in name.lower() else "feed-forward"
    return found
