"""Leakage: test images of which a copy is among the training images. N training rows, M test rows,
D width.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from pauc_hub.retrieval.cosine import Vectors

SAME_PICTURE = 0.999
"""Cosine similarity from which on two rows are one picture: the same file, or re-encoded or
resized.

Of CIFAR-10's 10,000 pairs of nearest neighbours none reaches 0.993, and re-encoded copies fall to
0.9995.
"""
ROWS_TOGETHER = 4096


def copied_rows(
    train: Vectors,
    test: Vectors,
    threshold: float = SAME_PICTURE,
    *,
    device: torch.device,
    advance: Callable[[int], None],
) -> npt.NDArray[np.int64]:
    """The training row of which each test row is a copy, or -1.

    Args:
        train: (N, D). test: (M, D). Either may be mapped from a file.
        advance: told how many training rows were compared.

    Returns:
        (M,); of several copies the most similar.
    """
    best = torch.full((len(test),), threshold, device=device)
    found = torch.full((len(test),), -1, device=device)
    for start in range(0, len(train), ROWS_TOGETHER):
        bank = _unit(train[start : start + ROWS_TOGETHER], device)
        for first in range(0, len(test), ROWS_TOGETHER):
            asked = slice(first, first + ROWS_TOGETHER)
            similarity, place = (_unit(test[asked], device) @ bank.T).max(dim=1)
            better = similarity >= best[asked]
            best[asked] = torch.where(better, similarity, best[asked])
            found[asked] = torch.where(better, place + start, found[asked])
        advance(len(bank))
    rows: npt.NDArray[np.int64] = found.cpu().numpy()
    return rows


def _unit(rows: Vectors, device: torch.device) -> torch.Tensor:
    return F.normalize(torch.from_numpy(np.asarray(rows, np.float32)).to(device), dim=1)
