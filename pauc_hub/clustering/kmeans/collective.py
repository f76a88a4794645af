"""What k-means needs of the processes that share its points: one sum."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Collective(Protocol):
    """Processes of which each holds some rows of the points; all call `kmeans`, with the same
    settings.
    """

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The elementwise sum over all processes, the same bits on each. May overwrite `tensor`."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process that holds every row."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor


ALONE = Alone()


def gather(tensor: Tensor, group: Collective) -> Tensor:
    """(processes, *shape of tensor): each one's tensor, in order of rank."""
    everyone = tensor.new_zeros(group.size, *tensor.shape)
    everyone[group.rank] = tensor
    return group.sum(everyone)
