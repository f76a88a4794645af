"""The prototypes file: what is written is read, and what is none is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.prototype_set import (
    Calibration,
    PrototypeSet,
    read_prototypes,
    unnamed,
    write_prototypes,
)
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ArtefactError
from pauc_hub.files.artefact import write_artefact
from pauc_hub.origin import Origin

ORIGIN = Origin("aa" * 32, "backbone", {"mean": [0.5]}, None, "net")


def level(k: int, parents: Tensor | None = None) -> Prototypes:
    centroids = F.normalize(torch.randn(k, 5, generator=torch.Generator().manual_seed(k)), dim=1)
    return Prototypes(centroids, torch.rand(k) + 0.1, torch.arange(k), torch.rand(k), parents)


@pytest.fixture
def nested() -> PrototypeSet:
    """2, 3 and 5 prototypes: of the finest, 0 and 4 lie in 0; 1, 2 and 3 in 1."""
    levels = (level(2), level(3, torch.tensor([0, 1, 1])), level(5, torch.tensor([0, 1, 2, 1, 0])))
    return PrototypeSet(levels, ORIGIN, True, unnamed(levels), facts={"rows": 9})


def test_what_is_written_is_read(tmp_path: Path, nested: PrototypeSet) -> None:
    calibration = Calibration(
        (0.1, 0.1, 0.1), (0.01, 0.02, 0.03), torch.tensor([0.1, 0.4]), 0.05, 0.04, 20
    )
    named = nested.renamed([{}, {2: "cats"}, {0: "é", 4: "b"}])
    for given in (
        nested,
        PrototypeSet(named.levels, ORIGIN, True, named.names, calibration, named.facts),
    ):
        write_prototypes(tmp_path / "a.prototypes.safetensors", given)
        found = read_prototypes(tmp_path / "a.prototypes.safetensors")
        assert found.granularities == (2, 3, 5)
        assert (found.origin, found.nested, found.names, found.facts) == (
            ORIGIN,
            True,
            given.names,
            {"rows": 9},
        )
        for ours, theirs in zip(given.levels, found.levels, strict=True):
            for name in ("centroids", "concentrations", "sizes", "radius"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert (ours.parents is None) == (theirs.parents is None)
    assert found.names == ((None, None), (None, None, "cats"), ("é", None, None, None, "b"))
    assert found.calibration is not None
    assert torch.equal(found.calibration.scores, calibration.scores)
    assert found.calibration.temperatures == (0.1, 0.1, 0.1)
    assert (found.calibration.errors, found.calibration.flagged) == ((0.01, 0.02, 0.03), 0.04)


def test_ancestors(nested: PrototypeSet) -> None:
    assert nested.ancestors(2).tolist() == [0, 1, 2, 3, 4]
    assert nested.ancestors(1).tolist() == [0, 1, 2, 1, 0]
    assert nested.ancestors(0).tolist() == [0, 1, 1, 1, 0]


def test_threshold_by_hand() -> None:
    """⌈(19 + 1) · 0.95⌉ = 19, the last of them; for 0.1 the 18th, for 0.04 there are too few."""
    scores = torch.arange(1, 20) / 20
    found = Calibration((1.0,), (0.0,), scores, 0.05, 0.0, 20)
    assert found.threshold(0.05) == pytest.approx(19 / 20)
    assert found.threshold(0.1) == pytest.approx(18 / 20)
    assert found.threshold(0.04) == float("inf")


def test_what_is_no_prototypes_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.prototypes.safetensors"
    write_artefact(path, "prototypes", 1, {}, ORIGIN, {"nested": True, "names": []})
    with pytest.raises(ArtefactError, match=r"holds no usable prototypes \('prototypes.0'\)"):
        read_prototypes(path)
    write_artefact(path, "prototypes", 2, {}, ORIGIN, {})
    with pytest.raises(ArtefactError, match="another format than this pauc-hub reads, 1"):
        read_prototypes(path)
