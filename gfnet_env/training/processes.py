"""Share one training among several processes, on one machine or more."""

import atexit
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gfnet_env.images import Batch, ImageSet, batches
from gfnet_env.runs import resolve_device
from gfnet_env.training.config import TrainingConfig


@dataclass(frozen=True)
class Processes:
    """The processes that share a training, and the rank of this one.

    Attributes:
        device: Device of this process.
        count: Number of processes.
        rank: Rank of this process, in [0, count - 1]; only rank 0 writes and reports.
    """

    device: torch.device
    count: int = 1
    rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def place(self, module: nn.Module) -> None:
        """Move a module to the device.

        On GPUs, batch norm computes its statistics over the whole batch. On CPUs, torch has no such
        layer, so each process uses its own share; the running statistics of the first process are
        kept.
        """
        module.to(self.device)
        if self.count > 1 and self.device.type == "cuda":
            # Unlike torch's function, timm's also converts timm's own batch norm.
            from timm.layers.norm_act import convert_sync_batchnorm

            convert_sync_batchnorm(module)

    def wrap(self, module: nn.Module) -> nn.Module:
        """A module whose backward pass averages gradients over the processes."""
        if self.count == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.count > 1:
            torch.distributed.barrier()


def join_processes(device: str) -> Processes:
    """The processes that ``accelerate launch`` or ``torchrun`` started, or else only this one.

    Args:
        device: See ``resolve_device``; each process gets a GPU of its own.

    Raises:
        ValueError: This machine has no such device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(resolve_device(device))
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = device == "cpu" or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    state = PartialState(cpu=cpu)
    atexit.register(state.destroy_process_group)
    if device not in ("auto", state.device.type):
        raise ValueError(f"these processes work on {state.device.type}, not {device}; give auto")
    return Processes(state.device, state.num_processes, state.process_index)


@dataclass(frozen=True)
class Part:
    """The images of a shared batch that one process computes at once.

    Attributes:
        batch: The images.
        counted: Number of images, from the first, that belong to the shared batch; the others fill
            it up.
        total: Number of images of the shared batch.
        is_last: Whether this part completes the process's share of the batch.
    """

    batch: Batch
    counted: int
    total: int
    is_last: bool


@dataclass(frozen=True)
class Shares:
    """Divides each shared batch among the processes; all get equally many images.

    A last batch that is too small for that, or for the statistics of batch norm, is filled up with
    images from the start of the epoch, which do not count in the loss.

    Args:
        images: Number of images of the set.
        batch_size: Size of the shared batch.
        accumulation: Number of parts in which a process computes its share.
        processes: The processes that share.

    Raises:
        ValueError: The batch cannot be shared evenly, or there is only one image.
    """

    images: int
    batch_size: int
    accumulation: int
    processes: Processes

    def __post_init__(self) -> None:
        if self.images == 1:
            raise ValueError("one image is too few to train on; give more")
        parts = self._parts
        if self.batch_size % parts:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be shared evenly by {self.processes.count} "
                f"processes that take it in {self.accumulation} parts each; make batch_size a "
                f"multiple of {parts}"
            )

    @classmethod
    def of(cls, images: int, config: TrainingConfig, processes: Processes) -> Self:
        """The shares of the batches of a resolved configuration."""
        return cls(images, config.schedule.batch_size, config.options.accumulation, processes)

    @property
    def _parts(self) -> int:
        return self.processes.count * self.accumulation

    @property
    def steps(self) -> int:
        """Number of batches of an epoch."""
        return math.ceil(self.images / self.batch_size)

    def parts(
        self, images: ImageSet, order: npt.NDArray[np.int64], begin: int = 0
    ) -> Iterator[Part]:
        """The parts that this process takes in an epoch.

        Args:
            images: The set.
            order: All its indices, in the order of the epoch.
            begin: Number of batches of the epoch that are already done, fewer than all.
        """
        device, rank = self.processes.device, self.processes.rank
        shape = (self.accumulation, self.processes.count)
        whole, rest = divmod(self.images, self.batch_size)
        size = self.batch_size // self._parts
        own = order[: whole * self.batch_size].reshape(whole, *shape, size)[begin:, :, rank]
        for number, batch in enumerate(batches(images, size, own.ravel(), device), start=1):
            yield Part(batch, size, self.batch_size, number % self.accumulation == 0)
        if rest == 0:
            return
        size = max(2, math.ceil(rest / self._parts))
        filled = np.resize(np.concatenate([order[-rest:], order]), (*shape, size))
        counted = (np.arange(filled.size) < rest).reshape(filled.shape).sum(axis=2)[:, rank]
        last = batches(images, size, filled[:, rank].ravel(), device)
        for number, batch in enumerate(last, start=1):
            taken = int(counted[number - 1])
            yield Part(batch, taken, rest, number == self.accumulation)
