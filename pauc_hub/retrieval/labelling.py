"""Which prototypes found images belong to. n images, D width."""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from pauc_hub.clustering.assignment import assign_points
from pauc_hub.clustering.prototype_set import read_prototypes
from pauc_hub.origin import require_same_origin
from pauc_hub.retrieval.cosine import Neighbors
from pauc_hub.retrieval.lookup import read_vectors
from pauc_hub.tables.stored import Stored


class PrototypeLabel(NamedTuple):
    """A prototype of the finest granularity."""

    prototype: int
    name: str | None


def label_neighbors(
    table: Path, stored: Stored, neighbors: list[Neighbors], prototypes: Path
) -> list[list[PrototypeLabel]]:
    """The prototypes of all neighbours, query by query.

    Args:
        table: for messages.
        prototypes: a prototypes file of the table's origin.

    Raises:
        ArtefactError: it is no prototypes file.
        OriginMismatch: it is of another origin.
    """
    found = read_prototypes(prototypes)
    require_same_origin(stored.provenance.origin, table, found.origin, prototypes)
    rows = [row for each in neighbors for row in each.rows.tolist()]
    points = F.normalize(torch.from_numpy(read_vectors(stored, rows)), dim=1)
    numbers = assign_points(points, found)[-1].prototype.tolist()
    labels = iter([PrototypeLabel(number, found.names[-1][number]) for number in numbers])
    return [list(islice(labels, len(each.rows))) for each in neighbors]
