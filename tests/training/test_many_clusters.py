"""100,000 clusters, as for ImageNet: nothing holds clusters times clusters, and a rehearsal counts
what is held.
"""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pauc_hub.clustering.kmeans import Clustering, count_distinct
from pauc_hub.clustering.prototypes import describe_clusters
from pauc_hub.evaluation.metrics import nmi
from pauc_hub.training import rehearsal
from pauc_hub.training.config import Config

MANY, MIB = 100_000, 2**20
CPU = torch.device("cpu")


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch says not of what types
    """Notes the bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return made


def test_parents_are_searched_in_parts() -> None:
    """Of all pairs, the similarities would take 800 MB."""
    points = torch.nn.functional.normalize(
        torch.randn(2 * MANY, 4, generator=torch.Generator().manual_seed(0)), dim=1
    )
    coarser, _ = describe_clusters(
        points, Clustering(points[:2000], torch.arange(2 * MANY) % 2000, (0.0,), 0), 0.2
    )
    with LargestTensor() as largest:
        found, _ = describe_clusters(
            points,
            Clustering(points[:MANY], torch.arange(2 * MANY) % MANY, (0.0,), 0),
            0.2,
            coarser,
        )
    assert largest.bytes < 16 * MIB
    assert len(found.sizes) == MANY
    some = torch.tensor([0, 1, 77_777, MANY - 1])
    assert found.parents is not None
    assert torch.equal(
        found.parents[some], (found.centroids[some] @ coarser.centroids.T).argmax(dim=1)
    )


def test_pairs_of_labels_are_counted_where_they_occur() -> None:
    """All pairs would take 80 GB."""
    labels = torch.randint(MANY, (2, 300_000), generator=torch.Generator().manual_seed(0))
    with LargestTensor() as largest:
        assert 0 < nmi(labels[0], labels[1]) < 1
    assert largest.bytes < 16 * MIB


def test_distinct_points_are_counted_in_parts() -> None:
    """The distances would take 256 MB."""
    with LargestTensor() as largest:
        assert count_distinct(torch.eye(8).repeat(1000, 1)) == 8
    assert largest.bytes < 16 * MIB


def test_a_rehearsal_describes_as_many_clusters_as_the_run_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def noted(points: torch.Tensor, clustering: Clustering, *rest: Any) -> Any:
        found = describe_clusters(points, clustering, *rest)
        sizes.append((len(found[0].sizes), found[0].parents is not None))
        return found

    compared = []
    monkeypatch.setattr(rehearsal, "describe_clusters", noted)
    monkeypatch.setattr(rehearsal, "nmi", lambda a, b: compared.append((len(a), len(b))))
    config = Config(clusters=(500, 1000, MANY), dim=4, objective="protonce")
    with LargestTensor() as largest:
        assert rehearsal._description_seconds(10 * MANY, config, CPU) > 0
    assert sizes == [(500, False), (1000, True), (MANY, True)]
    assert compared == [(10 * MANY, 10 * MANY)]
    assert largest.bytes < 32 * MIB
