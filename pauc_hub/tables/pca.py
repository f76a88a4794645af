"""Principal components: shorter embeddings that keep most of what differs. N rows, D width before,
d width after.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pauc_hub.errors import PaucError, TableError
from pauc_hub.files.atomic import replacing

PCA_FORMAT = 1
ROWS_TOGETHER = 4096  # of the sample in float64 at a time


@dataclass(frozen=True, eq=False)
class Pca:
    """A projection onto the directions of largest variance, not whitened: distances shrink, none is
    stretched.
    """

    mean: npt.NDArray[np.float32]  # (D,)
    components: npt.NDArray[np.float32]  # (d, D) orthonormal rows, by falling variance
    variance_share: float
    """Of the sample's variance, in [0, 1]; 1 where the sample does not vary at all."""

    @classmethod
    def fit(cls, sample: npt.NDArray[np.float32], width: int) -> Self:
        """Find the `width` directions of an (N, D) sample, exactly, in float64.

        The largest number of a component by magnitude is positive, so that the same sample gives
        the same signs.

        Raises:
            PaucError: fewer rows or narrower embeddings than components, or numbers that are not
                finite.
        """
        _check(sample, width)
        mean = sample.mean(axis=0, dtype=np.float64)
        parts = (
            sample[start : start + ROWS_TOGETHER] - mean
            for start in range(0, len(sample), ROWS_TOGETHER)
        )
        scatter = sum((part.T @ part for part in parts), start=np.zeros((len(mean), len(mean))))
        if not np.isfinite(scatter).all():
            raise PaucError(
                f"pca={width} needs finite numbers, and the embeddings hold others. Try "
                "precision=fp32."
            )
        values, vectors = np.linalg.eigh(scatter)  # by rising value
        components = vectors.T[::-1][:width]
        largest = np.take_along_axis(
            components, np.abs(components).argmax(axis=1, keepdims=True), axis=1
        )
        kept, all_of_it = values[::-1][:width].sum(), values.sum()
        share = float(np.clip(kept / all_of_it, 0, 1)) if all_of_it > 0 else 1.0
        return cls(
            mean.astype(np.float32), (components * np.sign(largest)).astype(np.float32), share
        )

    @property
    def width(self) -> int:
        return len(self.components)

    def project(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, D) embeddings to (N, d)."""
        projected: npt.NDArray[np.float32] = np.matmul(embeddings - self.mean, self.components.T)
        return projected

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def content(self) -> bytes:
        """The file: safetensors with one entry of metadata, since several stand in no fixed
        order.
        """
        about = json.dumps({"format_version": PCA_FORMAT, "variance_share": self.variance_share})
        return save(
            {"mean": self.mean, "components": np.ascontiguousarray(self.components)},
            {"pauc": about},
        )

    def save(self, path: Path) -> None:
        """Put the file at `path`, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(path) as file:
            file.write(self.content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what save() wrote.

        Raises:
            TableError: it cannot be read, or is none.
        """
        try:
            with safe_open(path, "np") as file:
                about = json.loads(file.metadata()["pauc"])
                return cls(
                    file.get_tensor("mean"), file.get_tensor("components"), about["variance_share"]
                )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TableError(f"'{path}' cannot be read as a PCA of pauc-hub ({error}).") from error


def _check(sample: npt.NDArray[np.float32], width: int) -> None:
    rows, numbers = sample.shape
    if width > numbers:
        raise PaucError(
            f"pca={width} is more than the {numbers} numbers of an embedding. Give {numbers} or "
            "less."
        )
    if width > rows:
        raise PaucError(
            f"pca={width} needs at least {width} images that can be read, and there are {rows}."
        )
