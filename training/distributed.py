"""The few collectives that training needs, each the identity on one process. N rows of all
processes together.

Whoever starts the processes (torchrun, SLURM) numbers them in the environment. Each holds a stretch
of every batch and one of all images; all draw the same random numbers, and so a run does not depend
on how many share it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pauc_hub.device import send
from pauc_hub.errors import PaucError, TrainingFailed, UsageError
from pauc_hub.processes import Ranks
from pauc_hub.training.config import Config

T = TypeVar("T")
# with a process that lives and is slow; one that has ended is noticed at once
PATIENCE = timedelta(minutes=30)
# gradients summed at once: large enough for a network's full speed, small beside the activations
BUCKET = 1 << 23


@dataclass(frozen=True)
class World:
    """This process among those that share a run."""

    rank: int = 0
    size: int = 1
    launch: str = ""
    """What torchrun calls all of them, see Ranks."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def stretch(self, total: int) -> slice:
        """This process's part of `total` rows; the parts' lengths differ by one at most."""
        return slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Over all processes, the same bits on each; may overwrite `tensor`."""
        if self.size > 1:
            with _loss_explained():
                distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up what every process's own rows contribute to the gradient of the joined loss."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in _buckets(gradients):
            flat = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view(gradient.shape))

    def gather(self, rows: Tensor, total: int) -> Tensor:
        """(total, …): the rows of all processes, in order of rank. `rows` are those of
        `stretch(total)`.
        """
        if self.size == 1:
            return rows
        most = -(-total // self.size)
        padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
        everyone = rows.new_empty(self.size * most, *rows.shape[1:])
        with _loss_explained():
            distributed.all_gather_single(everyone, padded)
        if total == len(everyone):
            return everyone
        ends = [total * rank // self.size for rank in range(self.size + 1)]
        lengths = [stop - start for start, stop in pairwise(ends)]
        return torch.cat(
            [
                part[:length]
                for part, length in zip(torch.split(everyone, most), lengths, strict=True)
            ]
        )

    def gather_with_gradient(self, rows: Tensor, total: int) -> Tensor:
        """The same, with gradient to this process's own rows: every process computes the loss of
        all of them.
        """
        if self.size == 1:
            return rows
        own, everyone = self.stretch(total), self.gather(rows.detach(), total)
        return torch.cat([everyone[: own.start], rows, everyone[own.stop :]])

    def shuffle(self, rows: Tensor, order: Tensor) -> Tensor:
        """This process's stretch of all rows in another order; each row travels once.

        Args:
            rows: (N / processes, …).
            order: (N,) int64 on the CPU, a permutation.
        """
        if self.size == 1:
            return rows[send(order, rows.device)]
        count, own = len(rows), self.stretch(len(order))
        # places in the new order, so by who gets them
        leaving = (order // count == self.rank).nonzero().squeeze(1)
        origins = order[own] // count
        sent, received = (
            torch.bincount(ranks, minlength=self.size).tolist()
            for ranks in (leaving // count, origins)
        )
        packed = rows[send(order[leaving] - own.start, rows.device)].contiguous()
        arrived = torch.empty_like(packed)
        with _loss_explained():
            distributed.all_to_all_single(arrived, packed, received, sent)
        return arrived[send(origins.argsort(stable=True).argsort(), rows.device)]

    def any(self, flag: bool) -> bool:
        """Whether it is set on any process; on the CPU, so that no GPU is waited for."""
        return bool(self.sum(torch.tensor(int(flag))).item()) if self.size > 1 else flag

    def merge(self, found: dict[int, str]) -> dict[int, str]:
        """What each process has found, together."""
        if self.size == 1:
            return found
        everyone: list[dict[int, str]] = [{} for _ in range(self.size)]
        with _loss_explained():
            distributed.all_gather_object(everyone, found)
        return {key: text for each in everyone for key, text in each.items()}

    def decided_by_first(self, decide: Callable[[], T]) -> T:
        """What `decide` returns, or raises, on the first process, on all of them."""
        if self.size == 1:
            return decide()
        answer: list[T | PaucError | None] = [None]
        if self.first:
            try:
                answer = [decide()]
            except PaucError as error:
                answer = [error]
        with _loss_explained():
            distributed.broadcast_object_list(answer)
        if isinstance(answer[0], PaucError):
            raise answer[0]
        return answer[0]  # type: ignore[return-value]  # None only where T is

    def wait(self) -> None:
        """For all others to come here."""
        self.any(False)


ONE_PROCESS = World()


@contextmanager
def join(ranks: Ranks, device: torch.device) -> Iterator[World]:
    """The processes of one run, met; on one process nothing is opened.

    Raises:
        UsageError: nobody says where they meet.
    """
    if not ranks.several:
        yield ONE_PROCESS
        return
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {ranks.count}, but {missing[0]} is not set: start the processes "
            "with torchrun, "
            "or set it as docs/scale.md shows."
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun sets 1 where nobody has chosen
        torch.set_num_threads(ranks.workers())
    with _loss_explained():
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=_meeting_place(ranks),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=PATIENCE,
        )
    try:
        yield World(ranks.rank, ranks.count, ranks.launch)
    finally:
        distributed.destroy_process_group()


def _meeting_place(ranks: Ranks) -> Store:
    """Where the processes tell each other their addresses.

    torchrun (torch 2.14) keeps its store over restarts, and whoever reads an address of the attempt
    before waits for a process that is gone. Machines count their restarts apart; docs/scale.md says
    what several of them need.
    """
    store, *_ = next(rendezvous("env://", ranks.rank, ranks.count, timeout=PATIENCE))
    attempt = ranks.restarts if ranks.local_count == ranks.count else 0
    return PrefixStore(f"attempt {attempt}", store)


def sharing_problems(config: Config, processes: int) -> list[str]:
    """Every reason why so many processes cannot share a run, in plain words."""
    if processes == 1:
        return []
    batch, groups, found = config.batch_size, config.norm_groups, []
    group = config.norm_group if config.has_batch_norm else 1
    if groups % processes or batch % groups:
        step = processes * group
        ways = f"a batch_size that is a multiple of {step} ({max(1, round(batch / step)) * step})"
        if batch % processes == 0 and batch // processes >= 32:  # the least norm_group
            ways += f", norm_group {batch // processes}"
        found.append(
            f"batch_size {batch} gives {processes} processes no equal numbers of whole groups "
            f"of norm_group {group}: "
            f"choose {ways}, or fewer processes"
        )
    elif config.accumulate > groups // processes:
        found.append(
            f"accumulate {config.accumulate} must be {groups // processes} or less, the "
            "batch-norm groups of a batch "
            f"that each of {processes} processes has"
        )
    if config.kmeans == "faiss":
        found.append(
            f"kmeans 'faiss' runs in one process, not in {processes}: choose torch, or leave it "
            "at auto"
        )
    return found


@contextmanager
def _loss_explained() -> Iterator[None]:
    """A collective fails where another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise TrainingFailed(
            f"another process of this run ended ({reason.partition('] ')[2] or reason}). "
            "The last checkpoint stands: go on with resume=True."
        ) from error


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """In their order, a bucket's numbers together BUCKET at most where one gradient alone is not
    more.
    """
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(each.numel() for each in bucket) + gradient.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
