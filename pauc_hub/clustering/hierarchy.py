"""Ward's hierarchy over centroids that stand for clusters of given sizes. K centroids, D width.

The cost of a merge is by how much the sum of squared distances to the centroids grows, n_a n_b /
(n_a + n_b) |a - b|².
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# the K x K costs take 1.6 GB then
LARGEST_K = 20_000
# of the costs, worked out at once
ENTRIES_TOGETHER = 1 << 22


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """All merges, the cheapest first."""

    merges: npt.NDArray[np.int64]
    """(K - 1, 2): a centroid of each of the two clusters that become one."""
    costs: npt.NDArray[np.float32]
    """(K - 1,), rising."""

    def cut(self, k: int) -> Tensor:
        """The k clusters that are left after the K - k cheapest merges.

        Returns:
            (K,) int64 in [0, k): which of them each centroid falls into, numbered by their first
            centroid. Of two cuts, the finer one's clusters each lie within one of the coarser
            one's.

        Raises:
            ValueError: k is not between 1 and K.
        """
        count = len(self.merges) + 1
        if not 1 <= k <= count:
            raise ValueError(f"k = {k} must lie between 1 and the number of centroids, {count}")
        above = np.arange(count)
        for first, second in self.merges[: count - k].tolist():
            one, other = _root(above, first), _root(above, second)
            above[max(one, other)] = min(one, other)
        roots = np.array([_root(above, leaf) for leaf in range(count)])
        return torch.from_numpy(np.unique(roots, return_inverse=True)[1])


def ward(centroids: Tensor, sizes: Tensor) -> Hierarchy:
    """Merge clusters two by two until one is left, at each step the two that it costs least to
    merge.

    With every point a centroid of size 1 this is Ward's method on the points; with the means of
    clusters it goes on upwards from them, which for equal merges gives what Ward's method on all
    points would give.

    Args:
        centroids: (K, D) means of the members, not normalised.
        sizes: (K,) number of members, above 0.

    Raises:
        ValueError: K is not between 1 and LARGEST_K, or a cluster is empty.

    Source: nearest-neighbour chains, Murtagh 1983; Lance and Williams 1967 for the update.
    """
    count = len(centroids)
    if not 1 <= count <= LARGEST_K:
        raise ValueError(f"{count} centroids; Ward's hierarchy takes 1 to {LARGEST_K}")
    if bool((sizes <= 0).any()):
        raise ValueError("a cluster without members has no place in a hierarchy")
    weights = sizes.cpu().numpy().astype(np.float32)
    costs = _pair_costs(centroids.detach().cpu().double().numpy(), weights)
    merges, heights = _chains(costs, weights)
    order = np.argsort(heights, kind="stable")
    return Hierarchy(merges[order], heights[order])


def _pair_costs(
    centroids: npt.NDArray[np.float64], sizes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """(K, K) cost of each merge; infinite on the diagonal."""
    count = len(centroids)
    centred = centroids - centroids.mean(axis=0)
    norms = (centred**2).sum(axis=1)
    costs = np.empty((count, count), np.float32)
    together = max(1, ENTRIES_TOGETHER // count)
    for start in range(0, count, together):
        rows = slice(start, min(start + together, count))
        gaps = norms[rows, None] + norms[None] - 2 * centred[rows] @ centred.T
        harmonic = sizes[rows, None] * sizes[None] / (sizes[rows, None] + sizes[None])
        costs[rows] = np.maximum(gaps, 0) * harmonic
    # a product may round a pair's two halves apart
    for row in range(count):
        costs[row + 1 :, row] = costs[row, row + 1 :]
    np.fill_diagonal(costs, np.inf)
    return costs


def _chains(
    costs: npt.NDArray[np.float32], sizes: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Follow nearest neighbours until two are each other's, merge them, and go on; K² time. `costs`
    is used up.

    Returns:
        (K - 1, 2) merges, each of the clusters by one centroid in it, and (K - 1,) their costs, in
        no order.
    """
    count = len(sizes)
    sizes = sizes.copy()
    merges = np.empty((count - 1, 2), np.int64)
    heights = np.empty(count - 1, np.float32)
    alive = np.ones(count, bool)
    chain: list[int] = []
    for step in range(count - 1):
        if not chain:
            chain.append(int(alive.argmax()))
        first, second = _end_of_chain(chain, costs)
        merges[step] = first, second
        heights[step] = costs[first, second]
        _merge(first, second, costs, sizes)
        alive[first] = False
    return merges, heights


def _end_of_chain(chain: list[int], costs: npt.NDArray[np.float32]) -> tuple[int, int]:
    """Lengthen the chain until its last two are each other's nearest, and take these two from
    it.
    """
    while True:
        row = costs[chain[-1]]
        nearest = int(row.argmin())
        if len(chain) > 1 and row[chain[-2]] <= row[nearest]:
            return chain.pop(), chain.pop()
        chain.append(nearest)


def _merge(
    gone: int, kept: int, costs: npt.NDArray[np.float32], sizes: npt.NDArray[np.float32]
) -> None:
    """Put the union of two clusters in the place of `kept`; merged with any other it costs what
    this works out.
    """
    total = sizes[gone] + sizes[kept]
    row = (
        (sizes[gone] + sizes) * costs[gone]
        + (sizes[kept] + sizes) * costs[kept]
        - sizes * costs[gone, kept]
    )
    row /= total + sizes
    row[[gone, kept]] = np.inf
    costs[kept] = row
    costs[:, kept] = row
    costs[gone] = np.inf
    costs[:, gone] = np.inf
    sizes[kept] = total


def _root(above: npt.NDArray[np.int64], leaf: int) -> int:
    while above[leaf] != leaf:
        above[leaf] = above[above[leaf]]
        leaf = int(above[leaf])
    return leaf
