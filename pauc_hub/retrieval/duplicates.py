"""Near-duplicates by cosine: each copy lies within the threshold of the row that is kept. N rows, D
width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.retrieval.cosine import Vectors

BLOCK = 2048
"""Rows compared at once: 16 MiB of similarities to as many others."""


@dataclass(frozen=True, eq=False)
class Copies:
    """What find_copies() gives."""

    keeper: npt.NDArray[np.int64]
    """(N,) the row that is kept in place of each; a kept row is its own."""
    similarity: npt.NDArray[np.float32]
    """(N,) cosine similarity of each row and its keeper; 1 for a kept row."""


def find_copies(
    vectors: Vectors,
    order: Sequence[int] | npt.NDArray[np.int64],
    threshold: float,
    *,
    device: torch.device,
    advance: Callable[[int], None],
) -> Copies:
    """Keep rows in the given order, and count each later one that is near enough to a kept one as a
    copy of it.

    No chain joins what is far apart: every copy lies within the threshold of its own keeper, the
    most similar one. All pairs with a kept row are compared, in blocks; memory is that of one more
    copy of the vectors.

    Args:
        vectors: (N, D), of any length.
        order: (N,) all rows, the best to keep first.
        threshold: least cosine similarity of a copy.
        device: where the products are computed.
        advance: told how many rows were compared.
    """
    ranked = np.asarray(order, np.int64)
    # Kept rows move to the front, where rows that were compared before are not needed any more.
    units = F.normalize(torch.from_numpy(np.asarray(vectors, np.float32)[ranked]).to(device), dim=1)
    kept = np.empty(len(ranked), np.int64)
    count = 0
    keeper = np.arange(len(ranked))
    similarity = np.ones(len(ranked), np.float32)
    for start in range(0, len(ranked), BLOCK):
        block = units[start : start + BLOCK].clone()
        best, place = _nearest(block, units[:count])
        inside = (block @ block.T).tril(diagonal=-1)
        owners, values = _settle(best, place, inside, threshold)
        fresh = [i for i, owner in enumerate(owners) if owner is None]
        slots = {i: count + n for n, i in enumerate(fresh)}
        for i, owner in enumerate(owners):
            if owner is not None:
                of_bank, slot = owner
                row = kept[slot] if of_bank else ranked[start + slot]
                keeper[ranked[start + i]] = row
                similarity[ranked[start + i]] = values[i]
        units[count : count + len(fresh)] = block[fresh]
        for i, slot in slots.items():
            kept[slot] = ranked[start + i]
        count += len(fresh)
        advance(len(block))
    return Copies(keeper, similarity)


def _nearest(block: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) largest similarity to a kept row, and which one that is; -1 where none is kept yet."""
    best = torch.full((len(block),), -1.0, device=block.device)
    place = torch.zeros(len(block), dtype=torch.int64, device=block.device)
    for start in range(0, len(bank), BLOCK):
        found, at = (block @ bank[start : start + BLOCK].T).max(dim=1)
        better = found > best
        best = torch.where(better, found, best)
        place = torch.where(better, at + start, place)
    return best, place


def _settle(
    best: Tensor, place: Tensor, inside: Tensor, threshold: float
) -> tuple[list[tuple[bool, int] | None], list[float]]:
    """For each row of a block its keeper, in the bank (True) or in the block, or None if it is kept
    itself.
    """
    near = inside >= threshold
    candidates = near.any(dim=1).cpu().numpy()
    values = best.cpu().tolist()
    owners: list[tuple[bool, int] | None] = [
        (True, slot) if value >= threshold else None
        for value, slot in zip(values, place.cpu().tolist(), strict=True)
    ]
    is_kept = np.array([owner is None for owner in owners])
    for i in np.flatnonzero(candidates):
        earlier = np.flatnonzero(near[i, :i].cpu().numpy() & is_kept[:i])
        if len(earlier) == 0:
            continue
        scores = inside[i, torch.from_numpy(earlier).to(inside.device)].cpu().numpy()
        top = int(scores.argmax())
        if owners[i] is None or scores[top] > values[i]:
            owners[i] = (False, int(earlier[top]))
            values[i] = float(scores[top])
            is_kept[i] = False
    return owners, values


def count_pairs_above(
    vectors: Vectors,
    rows: npt.NDArray[np.int64],
    thresholds: Sequence[float],
    *,
    device: torch.device,
) -> npt.NDArray[np.int64]:
    """How many pairs of one of some rows and any other row are at least so similar, for each
    threshold.
    """
    asked = F.normalize(torch.from_numpy(np.asarray(vectors[rows], np.float32)).to(device), dim=1)
    counts = np.zeros(len(thresholds), np.int64)
    for start in range(0, len(vectors), BLOCK):
        bank = F.normalize(
            torch.from_numpy(np.asarray(vectors[start : start + BLOCK], np.float32)).to(device),
            dim=1,
        )
        similarity = asked @ bank.T
        for n, threshold in enumerate(thresholds):
            counts[n] += int((similarity >= threshold).sum())
    # Each row was found with itself, where it is no zero.
    own = asked.norm(dim=1).cpu().numpy() > 0.5
    counts -= int(own.sum())
    return counts
