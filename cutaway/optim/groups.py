"""Which parameters weight decay and penalties act on."""

from typing import Any

from torch import nn


def decayed_weights(model: nn.Module, decay_embeddings: bool = False) -> list[nn.Parameter]:
    """The matrices that train, without norms, biases and (by default) embeddings.

    A row of an embedding whose token does not occur gets no gradient, and decay alone would wear it down. What is no product's
    `weight` (a class token, a table of positions) is an embedding; learned relative positions are a bias.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed = []
    for name, weight in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        is_bias = (
            weight.dim() < 2 or leaf == "bias" or owner.endswith("bias")
        )  # of stacked experts it has two dimensions
        is_embedding = id(weight) in embeddings or not leaf.startswith(("weight", "lora_"))
        if weight.requires_grad and not is_bias and (decay_embeddings or not is_embedding):
            decayed.append(weight)
    return decayed


def parameter_groups(model: nn.Module, weight_decay: float, *, decay_embeddings: bool = False) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: `decayed_weights`, and the others. Parameters that do not train are left out; a group that
    would be empty too.
    """
    decayed = decayed_weights(model, decay_embeddings)
    named = {id(weight) for weight in decayed}
    kept = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in named]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
