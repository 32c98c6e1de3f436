"""The few things that several processes training one network (PyTorch DDP) must agree on; all are no-ops in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together. rank: this one's number, 0 … size − 1; number 0 writes and decides."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and decides."""
        return self.rank == 0

    def agreed(self, value: T) -> T:
        """What process 0 has, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def summed(self, values: Tensor) -> Tensor:
        """The sum of every process's values, in all of them."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes; the network itself where there is one."""
        return network if self.size == 1 else DistributedDataParallel(network)


def here() -> World:
    """The world that `torch.distributed` was initialised with; one process if it was not."""
    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size())
