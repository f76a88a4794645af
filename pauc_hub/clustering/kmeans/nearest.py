"""The two halves of a Lloyd iteration: the nearest centroid of each point, and sums over clusters.

N points of width D, K centroids. Neither half holds N x K of anything, or depends on the order in
which threads finish.
"""

from itertools import pairwise

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.collective import ALONE, Collective

# Scores held at once. A CPU keeps 2 MiB of float32 in its cache, where 32 MiB take a third longer;
# a GPU wants large products, and 256 MiB are little to it.
CHUNK_ENTRIES = {"cpu": 1 << 19, "cuda": 1 << 26}
# Centroids that points are compared with at once. With 10,000 of them a chunk as above has 52 rows,
# and the processor's matrix product takes twice as long as with 512 rows and a thousand columns.
TILE_CENTROIDS = {"cpu": 1 << 10, "cuda": 1 << 30}
SUM_ROWS = {"cpu": 1 << 12, "cuda": 1 << 18}  # rows summed at once, in float64
# of unit rows: the same image gives features this close from batches of different sizes
ALIKE = 1e-4
# below it, one thread of numpy finds the largest of a row sooner than all of torch's
FEW_THREADS = 4


def assign_nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point.

    Returns:
        (N,) int64 indices, the lowest of equals, and (N,) squared distances, not below 0.
    """
    origin = centroids.mean(dim=0)  # distances far from 0 would drown in the rounding of |x|^2
    points = points - origin
    nearest, scores = best_scores(points, centroids - origin)
    return nearest, squared_distances(points.square().sum(dim=1), scores)


def squared_distances(norms: Tensor, scores: Tensor) -> Tensor:
    """|x - c|^2 from |x|^2 and the score of c; not below 0, where rounding may put it."""
    return (norms - 2 * scores).clamp_min_(0)


def squared_gaps(points: Tensor, centroids: Tensor, assignment: Tensor) -> Tensor:
    """(N,) squared distances of points to their own centroids, however far from the nearest.

    Args:
        assignment: (N,) int64 in [0, K).
    """
    gaps = points.new_empty(len(points))
    for part in _parts(len(points), SUM_ROWS, points.device):
        gaps[part] = (points[part] - centroids[assignment[part]]).square_().sum(dim=1)
    return gaps


def count_distinct(points: Tensor) -> int:
    """How many unit rows differ by more than rounding.

    Args:
        points: (N, D); their N x N distances are worked out, in parts.
    """
    repeated = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for part in _parts(len(points), CHUNK_ENTRIES, points.device, len(points)):
        near = (
            torch.cdist(points[part], points, compute_mode="donot_use_mm_for_euclid_dist") <= ALIKE
        )
        repeated[part] = near.tril(diagonal=part.start - 1).any(dim=1)
    return int((~repeated).sum())


def squared_norms(points: Tensor) -> Tensor:
    """(N,) |x|^2, without a second (N, D)."""
    norms = points.new_empty(len(points))
    for part in _parts(len(points), SUM_ROWS, points.device):
        norms[part] = points[part].square().sum(dim=1)
    return norms


def count_spoilt(points: Tensor) -> Tensor:
    """() int64: how many numbers are not finite."""
    spoilt = torch.zeros((), dtype=torch.int64, device=points.device)
    for part in _parts(len(points), SUM_ROWS, points.device):
        spoilt += (~torch.isfinite(points[part])).sum()
    return spoilt


def best_scores(points: Tensor, centroids: Tensor, *, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """(N,) int64 nearest centroids, and (N,) their scores x.c - |c|^2 / 2, of which the largest is
    the nearest.

    Args:
        bf16: multiply in bfloat16 with float32 sums. It pays on a GPU; a CPU rounds alike, and
            gains nothing.
    """
    half_norms = centroids.square().sum(dim=1) / 2
    nearest = torch.empty(len(points), dtype=torch.int64, device=points.device)
    scores = points.new_empty(len(points))
    factors = centroids.T.bfloat16() if bf16 else centroids.T
    tiles = tiled(len(centroids), points.device)
    for part in _parts(len(points), CHUNK_ENTRIES, points.device, tiles[0].stop):
        scores[part], nearest[part] = _best_of_all(points[part], factors, half_norms, tiles)
    return nearest, scores


def tiled(centroids: int, device: torch.device) -> list[slice]:
    """Parts of so many centroids, of equal size but for one."""
    count = -(-centroids // TILE_CENTROIDS[device.type])
    return [
        slice(start, stop)
        for start, stop in pairwise(part * centroids // count for part in range(count + 1))
    ]


def _best_of_all(
    rows: Tensor, factors: Tensor, half_norms: Tensor, tiles: list[slice]
) -> tuple[Tensor, Tensor]:
    """Of each row the largest score and whose it is, the first of equals.

    Args:
        factors: (D, K) the centroids.
    """
    best = torch.full((len(rows),), -torch.inf, device=rows.device)
    nearest = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for tile in tiles:
        # on a CPU a sixth quicker than one addmm
        found, index = largest(_products(rows, factors[:, tile]).sub_(half_norms[tile]))
        better = found > best
        best = torch.where(better, found, best)
        nearest = torch.where(better, index + tile.start, nearest)
    return best, nearest


def cluster_sums(values: Tensor, assignment: Tensor, k: int) -> Tensor:
    """(K, …) float64 sums of the members' values (N, …): so exact that neither order nor sharing
    shows in float32.
    """
    sums = torch.zeros(k, *values.shape[1:], dtype=torch.float64, device=values.device)
    add = _add_sorted if values.is_cuda else _add_in_order
    for part in _parts(len(values), SUM_ROWS, values.device):
        add(sums, values[part], assignment[part])
    return sums


def cluster_sizes(assignment: Tensor, k: int) -> Tensor:
    """(K,) int64."""
    return torch.bincount(assignment, minlength=k)


def cluster_means(
    points: Tensor, assignment: Tensor, k: int, group: Collective = ALONE
) -> tuple[Tensor, Tensor]:
    """(K, D) means of the members and (K,) int64 sizes; the mean of an empty cluster is 0."""
    sizes = group.sum(cluster_sizes(assignment, k))
    means = group.sum(cluster_sums(points, assignment, k)) / sizes.clamp_min(1).unsqueeze(1)
    return means.to(points.dtype), sizes


def _parts(
    length: int, at_once: dict[str, int], device: torch.device, width: int = 1
) -> list[slice]:
    most = at_once[device.type if device.type in at_once else "cuda"]
    rows = max(1, most // width)
    return [slice(start, stop) for start, stop in pairwise([*range(0, length, rows), length])]


def _products(rows: Tensor, factors: Tensor) -> Tensor:
    if factors.dtype != torch.bfloat16:
        return rows @ factors
    rows = rows.bfloat16()
    return (
        torch.mm(rows, factors, out_dtype=torch.float32)
        if rows.is_cuda
        else rows.float() @ factors.float()
    )


def largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the largest score and where it stands, the first of equals."""
    if scores.is_cuda or torch.get_num_threads() >= FEW_THREADS:
        values, index = scores.max(dim=1)
        return values, index
    index = torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.gather(1, index.unsqueeze(1)).squeeze(1), index


def _add_in_order(sums: Tensor, values: Tensor, assignment: Tensor) -> None:
    sums.index_add_(0, assignment, values.double())


def _add_sorted(sums: Tensor, values: Tensor, assignment: Tensor) -> None:
    """For GPUs, where index_add_ adds in whatever order its threads come."""
    order = assignment.argsort(stable=True)
    lengths = cluster_sizes(assignment, len(sums))
    sums += torch.segment_reduce(
        values[order].double(), "sum", lengths=lengths, axis=0, unsafe=True, initial=0
    )
