"""The processes of a run. `torchrun` starts them; one process alone is the ordinary case, in which nothing here does anything.

All processes run the same program. What only one may do (write, print) the first does, and what must be agreed on is summed.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cutaway.core.files import new_folder

T = TypeVar("T", bound=Tensor)


def join() -> None:
    """Meet the other processes that `torchrun` started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if on_gpu else "gloo")
        # Of a model that is shared in two ways, norms and checkpoints take two exchanges in a row; torch warns of each.
        logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def total(*values: float) -> tuple[float, ...]:
    """The sums over all processes, in float64."""
    if size() == 1:
        return values
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return tuple(sums.tolist())


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does what is inside before the others begin with it: what it leaves on disk, they find."""
    if size() > 1 and not is_first():
        dist.barrier()
    yield
    if size() > 1 and is_first():
        dist.barrier()


@contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """`new_folder`, of which only what the first process writes remains; all processes leave it together."""
    if is_first():
        with new_folder(folder) as temporary:
            yield temporary
    else:
        with TemporaryDirectory() as scratch:
            yield Path(scratch)
    if size() > 1:
        dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded. The other processes help, and get an empty one: they have no use for it."""
    if size() == 1 or not _is_sharded(tensor):
        return tensor
    full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return full if is_first() else full.new_empty(0)


def like(full: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor sharded like another."""
    full = full.detach().to(tensor.device)
    if size() == 1 or not _is_sharded(tensor) or full.shape != tensor.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]


def by_mesh(tensors: Iterable[T]) -> list[list[T]]:
    """Tensors of one kind of sharding together: operations on several at once want them so."""
    groups: dict[Any, list[T]] = {}
    for tensor in tensors:
        groups.setdefault(getattr(tensor, "device_mesh", None), []).append(tensor)
    return list(groups.values())


def _is_sharded(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor  # takes long to import, and one process has none

    return isinstance(tensor, DTensor)
