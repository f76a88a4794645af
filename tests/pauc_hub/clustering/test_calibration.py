"""Temperatures that make confidence come true, and thresholds that flag as many as they are asked
to.
"""

import pytest
import torch
from torch.nn import functional as F

from pauc_hub.clustering.calibration import calibrate, temperature_for_agreement
from pauc_hub.clustering.prototype_set import PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.evaluation.calibration import expected_calibration_error
from pauc_hub.origin import Origin


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    similarities = F.normalize(
        torch.randn(400, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    agreement = torch.softmax(similarities / temperature, dim=1).amax(dim=1)
    assert temperature_for_agreement(similarities, agreement) == pytest.approx(
        temperature, rel=0.02
    )


def test_confidence_is_the_share_that_agrees_at_every_granularity() -> None:
    """Six directions in three pairs; votes drawn from a softmax of a known temperature."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.eye(6)[[0, 0, 2, 2, 4, 4]]
    fine = F.normalize(pairs + 0.4 * torch.eye(6)[[0, 1, 2, 3, 4, 5]], dim=1)
    ones = torch.ones(6, dtype=torch.int64)
    levels = (
        Prototypes(torch.eye(6)[[0, 2, 4]], torch.ones(3), ones[:3], torch.ones(3)),
        Prototypes(fine, torch.ones(6), ones, torch.ones(6), torch.tensor([0, 0, 1, 1, 2, 2])),
    )
    prototypes = PrototypeSet(levels, Origin("aa", "backbone", {}), True, unnamed(levels))
    kept = F.normalize(torch.randn(2000, 6, generator=generator), dim=1)
    shares = torch.softmax(kept @ fine.T / 0.1, dim=1)
    votes = list(torch.multinomial(shares, 20, replacement=True, generator=generator).T)
    found = calibrate(kept, prototypes, [votes], expected_calibration_error)
    assert list(found.temperatures) == pytest.approx([0.1, 0.1], rel=0.1)
    assert max(found.errors) < 0.03
    assert found.reclusterings == 20
    # a vote for nobody is no agreement: the more of them, the less confidence
    doubtful = [torch.where(torch.arange(2000) % 2 == 0, vote, -1) for vote in votes]
    assert calibrate(kept, prototypes, [doubtful], expected_calibration_error).errors[1] > 0.3


def test_the_threshold_flags_the_share_that_it_was_asked_for() -> None:
    generator = torch.Generator().manual_seed(1)
    levels = (
        Prototypes(
            torch.eye(4)[:2], torch.ones(2), torch.ones(2, dtype=torch.int64), torch.ones(2)
        ),
    )
    prototypes = PrototypeSet(levels, Origin("aa", "backbone", {}), True, unnamed(levels))
    kept = F.normalize(torch.randn(4000, 4, generator=generator), dim=1)
    votes = [[torch.zeros(4000, dtype=torch.int64)]]
    found = calibrate(kept, prototypes, votes, expected_calibration_error)
    assert found.flagged == pytest.approx(0.05, abs=0.015)
    assert len(found.scores) == 2000
    assert bool((found.scores.diff() >= 0).all())
