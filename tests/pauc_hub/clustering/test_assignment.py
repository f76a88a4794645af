"""Assignment by hand: nearest and ancestral prototypes, margins, and confidences that add up."""

from dataclasses import replace
from math import exp

import pytest
import torch

from pauc_hub.clustering import assignment
from pauc_hub.clustering.assignment import assign_points, outlier_scores
from pauc_hub.clustering.prototype_set import Calibration, PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.origin import Origin

ORIGIN = Origin("aa" * 32, "backbone", {})
CALIBRATION = Calibration((0.5, 0.5), (0.0, 0.0), torch.zeros(1), 0.05, 0.0, 20)


def prototypes(centroids: list[list[float]], parents: list[int] | None = None) -> Prototypes:
    k = len(centroids)
    above = None if parents is None else torch.tensor(parents)
    return Prototypes(
        torch.tensor(centroids),
        torch.ones(k),
        torch.ones(k, dtype=torch.int64),
        torch.ones(k),
        above,
    )


# the second fine one lies nearer to the coarse 0, and descends from 1
COARSE = prototypes([[1.0, 0.0], [0.0, 1.0]])
FINE = prototypes([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], [0, 1, 1])
NESTED = PrototypeSet((COARSE, FINE), ORIGIN, True, unnamed((COARSE, FINE)))
POINTS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])


def test_coarse_prototypes_are_ancestors_where_they_nest() -> None:
    coarse, fine = assign_points(POINTS, NESTED)
    assert fine.prototype.tolist() == [0, 1, 2]
    assert fine.similarity.tolist() == pytest.approx([1, 1, 0])
    assert fine.margin.tolist() == pytest.approx([0.2, 0.2, 0.8])
    assert coarse.prototype.tolist() == [0, 1, 1]
    assert coarse.similarity.tolist() == pytest.approx([1, 0.6, 0])
    assert coarse.margin.tolist() == pytest.approx([1, -0.2, 1])
    assert coarse.confidence is None
    assert outlier_scores(fine).tolist() == pytest.approx([0, 0, 1])


def test_independent_granularities_are_each_the_nearest() -> None:
    coarse, fine = assign_points(POINTS, replace(NESTED, nested=False))
    assert coarse.prototype.tolist() == [0, 0, 1]
    assert fine.prototype.tolist() == [0, 1, 2]


def test_coarse_confidence_is_the_sum_of_the_finer_ones() -> None:
    coarse, fine = assign_points(POINTS, replace(NESTED, calibration=CALIBRATION))
    # similarities 1, 0.8, 0 of the first point over a temperature of 0.5
    weights = [exp(2), exp(1.6), 1]
    assert fine.confidence is not None
    assert fine.confidence[0].item() == pytest.approx(weights[0] / sum(weights))
    assert coarse.confidence is not None
    assert coarse.confidence[0].item() == pytest.approx(weights[0] / sum(weights))
    # 0.8, 1, 0.6 of the second, which lies in 1 or 2
    weights = [exp(1.6), exp(2), exp(1.2)]
    assert coarse.confidence[1].item() == pytest.approx(sum(weights[1:]) / sum(weights))


def test_one_prototype_has_no_margin() -> None:
    alone = prototypes([[1.0, 0.0]])
    (found,) = assign_points(POINTS, PrototypeSet((alone,), ORIGIN, True, unnamed((alone,))))
    assert found.prototype.tolist() == [0, 0, 0]
    assert found.margin.isnan().all()


def test_many_points_are_assigned_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = POINTS.repeat(5, 1)
    for prototypes in (
        NESTED,
        replace(NESTED, calibration=CALIBRATION),
        replace(NESTED, nested=False),
    ):
        whole = assign_points(points, prototypes)
        with monkeypatch.context() as patch:
            patch.setattr(assignment, "ENTRIES_TOGETHER", 12)
            patch.setattr(assignment, "FEWEST_ROWS", 2)
            parts = assign_points(points, prototypes)
        for one, other in zip(whole, parts, strict=True):
            assert torch.equal(one.prototype, other.prototype)
            torch.testing.assert_close(one.margin, other.margin)
            assert (one.confidence is None) == (other.confidence is None)
            if one.confidence is not None and other.confidence is not None:
                torch.testing.assert_close(one.confidence, other.confidence)
