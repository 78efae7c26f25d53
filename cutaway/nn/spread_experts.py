"""Expert parallelism (Lepikhin et al. 2020): the experts of a layer lie on several processes; tokens travel to theirs and
back.

Shapes: M assignments of a token to an expert, sorted by expert; E experts, P processes, each with L = E / P of them; D model
width.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.func import functional_call


class SpreadExperts(nn.Module):
    """What takes the place of a list of alike experts: each weight is one tensor of all experts, E × …, cut along E, and is
    called as `expert_names` says.

    Args:
        experts: all of them, the same in every process.
        mesh: P processes, in one dimension; P divides E.
    """

    def __init__(self, experts: nn.ModuleList, mesh: DeviceMesh):
        super().__init__()
        self.E, self.mesh = len(experts), mesh
        self.stack = deepcopy(experts[0])
        for name, parameter in experts[0].named_parameters():
            whole = torch.stack([expert.get_parameter(name).detach() for expert in experts])
            owner, _, leaf = name.rpartition(".")
            weight = nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]), parameter.requires_grad)
            setattr(self.stack.get_submodule(owner), leaf, weight)

    def __len__(self) -> int:
        return self.E

    def forward(self, x_MD: Tensor, counts_E: list[int]) -> Tensor:
        """What the experts make of their tokens, in the order in which these came.

        Args:
            x_MD: this process's tokens, sorted by expert.
            counts_E: how many each expert gets.
        """
        P, group = self.mesh.size(), self.mesh.get_group()
        sent_PL = torch.tensor(counts_E, device=x_MD.device).view(P, -1)
        come_PL = torch.empty_like(sent_PL)  # what each process sends to each of our experts
        dist.all_to_all_single(come_PL, sent_PL, group=group)
        there, back = sent_PL.sum(1).tolist(), come_PL.sum(1).tolist()
        come = come_PL.flatten().tolist()
        parts = _exchange(x_MD, there, back, group).split(come)  # by process, then by expert
        L = come_PL.shape[1]
        done: list[Tensor] = [x_MD] * len(parts)
        for expert, weights in enumerate(self._weights(L)):
            y = functional_call(self.stack, weights, (torch.cat(parts[expert::L]),))
            done[expert::L] = y.split(come[expert::L])
        return _exchange(torch.cat(done), back, there, group)

    def _weights(self, L: int) -> Iterator[dict[str, Tensor]]:
        """Those of each expert that is here."""
        held = {name: _local(weight) for name, weight in self.stack.named_parameters()}
        return ({name: weight[expert] for name, weight in held.items()} for expert in range(L))


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


def _exchange(x: Tensor, there: list[int], back: list[int], group: Any) -> Tensor:
    return _Exchange.apply(x, there, back, group)  # type: ignore[no-any-return, no-untyped-call]


class _Exchange(torch.autograd.Function):
    """Rows go to their processes, by number: `there` to each, `back` from each. The gradient goes the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: list[int], back: list[int], group: Any) -> Tensor:
        ctx.way = there, back, group
        out = x.new_empty(sum(back), *x.shape[1:])
        dist.all_to_all_single(out, x.contiguous(), back, there, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        there, back, group = ctx.way
        return _Exchange.forward(ctx, upstream[0], back, there, group), None, None, None
