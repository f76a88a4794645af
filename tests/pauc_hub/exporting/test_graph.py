"""Heads in the graph against the functions behind `pauc assign` and `pauc predict`. N = 9 rows, D =
4.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pauc_hub.answers.probe_file import ProbeFile
from pauc_hub.clustering.prototype_set import Calibration, PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.evaluation.design import Standardisation
from pauc_hub.evaluation.logistic import Linear
from pauc_hub.exporting.graph import Normalisation, ProbeHead, PrototypeHead
from pauc_hub.exporting.heads import Answers
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.origin import Origin

ORIGIN = Origin("aa" * 32, "backbone", {})
RNG = torch.Generator().manual_seed(0)
# The last row is zero, which has no direction.
ROWS = torch.cat([3 * torch.randn(8, 4, generator=RNG), torch.zeros(1, 4)])


def level(k: int, parents: list[int] | None = None) -> Prototypes:
    centroids = F.normalize(torch.randn(k, 4, generator=RNG), dim=1)
    above = None if parents is None else torch.tensor(parents)
    return Prototypes(
        centroids, torch.ones(k), torch.ones(k, dtype=torch.int64), torch.ones(k), above
    )


LEVELS = (level(2), level(3, [0, 1, 1]), level(5, [2, 0, 1, 1, 2]))
NESTED = PrototypeSet(LEVELS, ORIGIN, True, unnamed(LEVELS))
CALIBRATION = Calibration((0.3, 0.5, 0.7), (0.0,) * 3, torch.zeros(1), 0.05, 0.0, 20)


@pytest.mark.parametrize("calibration", [None, CALIBRATION], ids=["uncalibrated", "calibrated"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "independent"])
def test_prototypes_are_those_of_assign(nested: bool, calibration: Calibration | None) -> None:
    if calibration and nested:
        calibration = replace(calibration, temperatures=(0.3,) * 3)
    prototypes = replace(NESTED, nested=nested, calibration=calibration)
    head = PrototypeHead(prototypes)
    found = dict(zip(head.names, head(ROWS), strict=True))
    expected = Answers(prototypes=prototypes).of({"backbone": ROWS.numpy()})
    assert list(found) == list(expected)
    assert ("confidence_5" in found) == (calibration is not None)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("several", [False, True])
def test_classes_are_those_of_predict(several: bool) -> None:
    standardisation = Standardisation(
        torch.randn(4, generator=RNG), torch.rand(4, generator=RNG) + 0.5
    )
    weights = torch.randn(3, 4, generator=RNG)
    linear = Linear(
        weights, torch.tensor([0.5, -0.5, 0.1]), standardisation, several, temperature=1.6
    )
    probe = ProbeFile(linear, ["a", "b", "c"], ORIGIN, {})
    head = ProbeHead(probe)
    found = dict(zip(head.names, head(ROWS), strict=True))
    expected = Answers(probe=probe).of({"backbone": ROWS.numpy()})
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, atol=1e-6, err_msg=name)
    assert np.allclose(expected["probabilities"].sum(axis=1), 1) is not several


def test_normalisation_is_the_preprocessings() -> None:
    preprocessing = Preprocessing(size=5, mean=(0.2, 0.5, 0.7), std=(0.1, 0.3, 0.5))
    images = torch.randint(0, 256, (2, 5, 5, 3), dtype=torch.uint8, generator=RNG)
    expected = preprocessing.normalise(images)
    torch.testing.assert_close(Normalisation(preprocessing)(images), expected, rtol=0, atol=1e-6)
