"""What a stopped `cluster` has done, kept beside its output until that is there. K prototypes, E
rows.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pauc_hub.clustering.reclustering import Reclustering
from pauc_hub.errors import ArtefactError
from pauc_hub.files.artefact import read_artefact, write_artefact
from pauc_hub.files.ownership import require_own
from pauc_hub.origin import Origin

STATE_KIND, STATE_FORMAT = "unfinished prototypes", 1
SECONDS_BETWEEN_SAVES = 15.0


class ClusterState:
    """Centroids after the last iteration, and the reclusterings that are done."""

    def __init__(self, output: Path, origin: Origin, plan: Mapping[str, Any]) -> None:
        """Find what an earlier call with the same plan has done.

        Args:
            plan: all that decides what comes out, as JSON has it.
        """
        self.path = output.with_name(f".{output.name}.unfinished")
        require_own(self.path)
        self.iterations = 0
        self.centroids: Tensor | None = None
        self.done = False
        """Whether k-means has come to its end."""
        self.reclusterings: list[Reclustering] = []
        self._origin, self._plan = origin, json.loads(json.dumps(plan))
        self._saved = time.monotonic()
        with suppress(ArtefactError):
            self._load()

    @property
    def found(self) -> bool:
        """Whether there is anything that need not be done again."""
        return self.centroids is not None

    def iterated(self, iteration: int, centroids: Tensor) -> None:
        """Take the centroids that an iteration of k-means led to; the 0th are the seeds."""
        self.centroids = centroids
        self.iterations = iteration
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_SAVES:
            self.save()

    def clustered(self, centroids: Tensor) -> None:
        """Take the centroids that k-means ends with."""
        self.centroids, self.done = centroids, True

    def reclustered(self, found: Reclustering) -> None:
        self.reclusterings.append(found)
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        if self.centroids is None:
            return
        tensors = {"centroids": self.centroids}
        for i, each in enumerate(self.reclusterings):
            tensors |= {f"matched.{i}": each.matched, f"labels.{i}": each.labels}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        about = {"plan": self._plan, "iterations": self.iterations, "done": self.done}
        write_artefact(self.path, STATE_KIND, STATE_FORMAT, arrays, self._origin, about)
        self._saved = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _load(self) -> None:
        found = read_artefact(self.path, STATE_KIND, STATE_FORMAT)
        if found.origin != self._origin or found.about.get("plan") != self._plan:
            return
        tensors = {name: torch.from_numpy(values) for name, values in found.tensors.items()}
        self.centroids = tensors["centroids"]
        self.iterations = int(found.about["iterations"])
        self.done = bool(found.about["done"])
        count = sum(name.startswith("matched.") for name in tensors)
        self.reclusterings = [
            Reclustering(tensors[f"matched.{i}"], tensors[f"labels.{i}"]) for i in range(count)
        ]
