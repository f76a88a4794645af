"""Tables of made-up embeddings: blobs about a few directions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

PROVENANCE = Provenance(
    "net", "ab" * 32, "backbone", {"input_size": [3, 8, 8]}, "fp32", "/nowhere/photos", "0.1"
)
WriteTable = Callable[..., Path]


@pytest.fixture
def write_table() -> WriteTable:
    """Writes (N, D) vectors as a table, with paths `00000.png` and so on unless given."""

    def write(
        path: Path,
        vectors: npt.NDArray[np.float32],
        paths: Sequence[str] | None = None,
        **changes: Any,
    ) -> Path:
        names = [f"{i:05}.png" for i in range(len(vectors))] if paths is None else paths
        with open_output(
            path, vectors.shape[1], len(vectors), replace(PROVENANCE, **changes)
        ) as output:
            output.write(names, vectors, np.ones((len(vectors), 2), np.int32))
        return path

    return write


@pytest.fixture
def blobs() -> Callable[..., npt.NDArray[np.float32]]:
    """(count, 8) points, the i-th near direction i % k of 8, of lengths about 5."""

    def make(count: int, k: int, spread: float = 0.1, seed: int = 0) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        points = np.eye(8)[np.arange(count) % k] + spread * rng.standard_normal((count, 8))
        return (5 * points).astype(np.float32)

    return make
