"""The prototypes that a batch hits, their members in batch and queue, and the means of these
(method.md §2, §4).

N batch, D projection width, K prototypes, R queue. No shape depends on a tensor's values, so that a
GPU is never waited for.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pauc_hub.device import send


class Members(NamedTuple):
    """The distinct prototypes A that a batch hit, in the order of their indices, and whose images
    are whose.

    |A| differs from batch to batch, and a GPU would have to be waited for to know it: so all that
    belongs to A has N rows, of which the first |A| count and the others are zero.
    """

    hit: Tensor
    """(N,) int64: the prototypes themselves."""
    number: Tensor
    """(N,) int64 in [0, |A|): which of them is each image's own."""
    sizes: Tensor
    """(N,) float32: how many of the batch's images each has; 0 in the rows that do not count."""

    @property
    def there(self) -> Tensor:
        """(N,) float32: 1 in the first |A| rows, else 0."""
        return (self.sizes > 0).to(self.sizes.dtype)


def batch_members(assignment: Tensor) -> Members:
    """Sort a batch by its prototypes.

    Args:
        assignment: (N,) int64, each image's prototype.
    """
    ordered, order = assignment.sort()
    fresh = ordered.diff(prepend=ordered[:1]) != 0  # the first of each prototype but the very first
    number = torch.zeros_like(order).scatter(0, order, fresh.cumsum(0))
    hit = torch.zeros_like(assignment).scatter(0, number, assignment)
    sizes = torch.zeros(len(assignment), device=assignment.device)
    return Members(hit, number, sizes.index_add(0, number, torch.ones_like(sizes)))


def choose_prototypes(
    members: Members, count: int, negatives: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The set J of method.md §2: those that the batch hit, and `negatives` more, drawn from the
    rest, each once.

    Args:
        members: of a batch of N.
        count: number of prototypes in the clustering; with count <= negatives all of them are in J.

    Returns:
        (J,) int64 prototypes, (J,) bool which of them are in J (the others fill the shape), and the
        (N,) position of each image's own.
    """
    device = members.hit.device
    if count <= negatives:
        every = torch.arange(count, device=device)
        return every, torch.ones_like(every, dtype=torch.bool), members.hit[members.number]
    rank = send(torch.rand(count, generator=generator), device)
    rank.index_fill_(0, members.hit[members.number], 2.0)  # behind all others
    last, drawn = rank.topk(negatives, largest=False)
    return (
        torch.cat([members.hit, drawn]),
        torch.cat([members.sizes > 0, last < 2.0]),
        members.number,
    )


def share_alone(assignment: Tensor) -> Tensor:
    """() share of a batch's images whose prototype no other image of the batch has.

    Args:
        assignment: (N,) int64, each image's prototype.
    """
    members = batch_members(assignment)
    return (members.sizes[members.number] == 1).float().mean()


class PastMembers(NamedTuple):
    """What the queue holds of the prototypes that a batch hit; rows as those of Members."""

    sums: Tensor
    """(N, D) of the keys; constant."""
    sizes: Tensor
    """(N,) float32: how many keys."""


def past_members(
    members: Members, queue: Tensor, queue_assignment: Tensor, count: int
) -> PastMembers:
    """Sort the queue's keys by the prototypes that a batch hit; all other keys are left out.

    Args:
        members: of a batch of N.
        queue: (R, D) past keys.
        queue_assignment: (R,) int64, the prototype of each key's image; negative where it has none.
        count: number of prototypes in the clustering.
    """
    rows = len(members.hit)
    # one row more, for keys of prototypes that the batch did not hit
    number = torch.full((count + 1,), rows, device=queue.device)
    number = number.scatter(0, members.hit[members.number], members.number)
    own = number[queue_assignment.where(queue_assignment >= 0, count)]
    sums = queue.new_zeros(rows + 1, queue.shape[1]).index_add(0, own, queue.detach())
    sizes = queue.new_zeros(rows + 1).index_add(0, own, queue.new_ones(len(queue)))
    return PastMembers(sums[:rows], sizes[:rows])


def batch_prototypes(x: Tensor, members: Members, past: PastMembers | None = None) -> Tensor:
    """Normalised mean of the rows of each prototype that the batch hit: (N, D), zero from row |A|
    on.

    Args:
        x: (N, D) queries or keys; gradient flows to them.
        past: keys that belong to the means too; none unless given.

    Source: method.md §4. A mean of zero length stays (near) zero, with a finite gradient.
    """
    sums, sizes = torch.zeros_like(x).index_add(0, members.number, x), members.sizes
    if past is not None:
        sums, sizes = sums + past.sums, sizes + past.sizes
    means = sums / sizes.clamp(min=1).unsqueeze(1)
    return means / (means.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
