"""Which parameters weight decay acts on."""

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float, *, decay_embeddings: bool = False) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: matrices decay; norms, biases and (by default) embeddings do not.

    A row of an embedding whose token does not occur gets no gradient, and decay alone would wear it down. Parameters that do not
    train are left out; a group that would be empty too.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            spared = parameter.dim() < 2 or (id(parameter) in embeddings and not decay_embeddings)
            (kept if spared else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
