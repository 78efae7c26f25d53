"""Names of experts' weights: one tensor of all, E × …, while the experts are spread over processes; one per expert in every file.

    experts.stack.w1.weight  ↔  experts.0.w1.weight, experts.1.w1.weight, …

Names that say nothing of a stack stay as they are.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

_STACK = ".stack."


def apart(name: str, tensor: Tensor, n: int) -> Iterator[tuple[str, Tensor]]:
    """One of a model's tensors, whole, under the names of the files.

    Args:
        n: the number of experts, should it be a stack of them; a single number holds for all.
    """
    if _STACK not in name:
        yield name, tensor
        return
    before, _, after = name.partition(_STACK)
    for expert, part in enumerate(tensor.expand(n) if tensor.dim() == 0 else tensor):
        yield f"{before}.{expert}.{after}", part.clone()


def together(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The opposite: what there is of a model's `names` in a file's tensors."""
    found = {}
    for name in names:
        if _STACK not in name:
            if name in tensors:
                found[name] = tensors[name]
            continue
        before, _, after = name.partition(_STACK)
        parts: list[Tensor] = []
        while (part := tensors.get(f"{before}.{len(parts)}.{after}")) is not None:
            parts.append(part)
        if parts:
            found[name] = torch.stack(parts)
    return found
