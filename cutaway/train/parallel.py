"""How the processes of a run are laid out: rows of the data along one way, products of a block or experts along the other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.distributed import rank, size
from cutaway.core.errors import ConfigError
from cutaway.core.seeds import seed_all

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class ParallelConfig(Config):
    """What the processes share besides rows and weights. It says where a run is computed, not what, so
    that a run may be resumed with other values."""

    tensor: int = Field(1, gt=0, description="processes that compute every product of a block together")
    experts: int = Field(1, gt=0, description="processes that the experts of a layer are spread over")


@dataclass(frozen=True)
class Meshes:
    """The processes in order: a process's neighbours are first those of its tensor group.

    Args:
        data: those that read different rows and share the weights.
        tensor: those that read the same rows and share the products.
        replicas, experts: `data` in two dimensions; the experts are spread along the second.
    """

    data: "DeviceMesh"
    tensor: "DeviceMesh"
    replicas: "DeviceMesh"
    experts: "DeviceMesh"


def make_meshes(parallel: ParallelConfig, device: str) -> Meshes:
    """The meshes of this run.

    Raises:
        ConfigError: the number of processes is no multiple of what is asked for.
    """
    from torch.distributed.device_mesh import init_device_mesh

    check_processes(parallel, size())
    readers = size() // parallel.tensor
    dense = init_device_mesh(device, (readers, parallel.tensor), mesh_dim_names=("data", "tensor"))
    shape = (readers // parallel.experts, parallel.experts, parallel.tensor)
    sparse = init_device_mesh(device, shape, mesh_dim_names=("replicas", "experts", "copies"))
    return Meshes(dense["data"], dense["tensor"], sparse["replicas"], sparse["experts"])


def seed_step(seed: int, step: int, parallel: ParallelConfig) -> None:
    """Begin what a step draws from the generators of all (dropout, noise): those that read different rows draw differently, those
    that share products alike.

    It depends on the seed, the step and the rows' reader alone, so that a resumed run draws what it would have drawn. One process
    goes on from where its generators stand, which its checkpoint says.
    """
    if size() > 1:
        reader = rank() // parallel.tensor
        seed_all(int(np.random.default_rng([seed, step, reader]).integers(2**63)))


def check_processes(parallel: ParallelConfig, processes: int) -> None:
    """Refuse what the number of processes does not allow."""
    for name, wanted, there in (
        ("tensor", parallel.tensor, processes),
        ("experts", parallel.experts, processes // parallel.tensor),
    ):
        if there % wanted:
            raise ConfigError(
                f"must divide the number of processes, which is {there}"
                + (" for the data" if name == "experts" else ""),
                field=f"loop.parallel.{name}",
                value=wanted,
                hint=f"torchrun --nproc-per-node={wanted * (parallel.tensor if name == 'experts' else 1)}",
            )
