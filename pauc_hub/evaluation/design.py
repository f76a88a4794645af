"""Standardised rows of features, a chunk at a time, as a fit goes over them again and again. N
rows, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Features = npt.NDArray[np.floating[Any]]
"""(N, D) of float16, float32 or float64; may be mapped from a file, so that only chunks of it are
in memory.
"""
Rows = npt.NDArray[np.int64]
"""(n,) which rows of the features are meant, ascending, so that a file is read from front to
back.
"""

CHUNK_BYTES = 4 << 20
"""Of a chunk in float32: on a CPU both products of a pass find it in the cache, at half the time of
16 MiB.
"""
GPU_CHUNK_BYTES = 256 << 20
"""On a GPU calls cost more than memory does."""
LEAST_SCALE = 1e-6
"""A feature that varies less than this share of the widest one is constant but for rounding."""


@dataclass(frozen=True)
class Standardisation:
    """(x - mean) / scale, feature by feature."""

    mean: Tensor
    """(D,) float32."""
    scale: Tensor
    """(D,) float32, > 0; 1 for a feature that is constant."""

    def apply(self, features: Tensor) -> Tensor:
        """(N, D) to (N, D) float32."""
        return (features.float() - self.mean) / self.scale


def measure_standardisation(features: Features, rows: Rows) -> Standardisation:
    """Mean and standard deviation of each feature over some rows, in float64."""
    total = np.zeros(features.shape[1])
    for chunk in chunks_of(rows, features.shape[1]):
        total += features[chunk].sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    squares = np.zeros(features.shape[1])
    for chunk in chunks_of(rows, features.shape[1]):
        squares += np.square(features[chunk].astype(np.float64) - mean).sum(axis=0)
    scale = np.sqrt(squares / len(rows))
    scale[scale <= LEAST_SCALE * scale.max(initial=0)] = 1
    return Standardisation(torch.from_numpy(mean).float(), torch.from_numpy(scale).float())


def chunks_of(rows: Rows, width: int, device: str = "cpu") -> Iterator[Rows]:
    """The rows in stretches of about CHUNK_BYTES of features, or GPU_CHUNK_BYTES."""
    together = max(1, (CHUNK_BYTES if device == "cpu" else GPU_CHUNK_BYTES) // (4 * width))
    for start in range(0, len(rows), together):
        yield rows[start : start + together]


class Design:
    """The standardised rows of one fit: in memory, or made anew for each pass.

    Args:
        features: (N, D).
        rows: (n,) those that take part.
        in_memory: keep 4 n D bytes, and half as much again in bfloat16 once that is asked for.
        device: where the chunks are given out.
    """

    def __init__(
        self,
        features: Features,
        rows: Rows,
        standardisation: Standardisation,
        *,
        in_memory: bool,
        device: torch.device,
    ) -> None:
        self.rows = len(rows)
        self.width = features.shape[1]
        self.device = device
        self._features = features
        self._chunks = list(chunks_of(rows, self.width, device.type))
        self._standardisation = standardisation
        self._in_memory = in_memory
        self._kept: dict[torch.dtype, list[Tensor]] = {}

    def chunks(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """Each chunk with the place of its rows among all n."""
        start = 0
        for x in self._tensors(dtype):
            yield slice(start, start + len(x)), x
            start += len(x)

    def sample(self, count: int) -> Tensor:
        """(m, D) standardised features of `count` rows or a few more, evenly spread; all where
        there are fewer.
        """
        step = max(1, self.rows // count)
        return torch.cat([x[-place.start % step :: step] for place, x in self.chunks()])

    def _tensors(self, dtype: torch.dtype) -> Iterator[Tensor]:
        if not self._in_memory:
            for chunk in self._chunks:
                yield self._standardised(chunk).to(dtype)
            return
        if dtype not in self._kept:
            exact = self._kept.setdefault(torch.float32, [])
            if not exact:
                exact.extend(self._standardised(chunk) for chunk in self._chunks)
            self._kept[dtype] = [x.to(dtype) for x in exact]
        yield from self._kept[dtype]

    def _standardised(self, chunk: Rows) -> Tensor:
        taken = torch.from_numpy(np.asarray(self._features[chunk]))
        return self._standardisation.apply(taken).to(self.device)
