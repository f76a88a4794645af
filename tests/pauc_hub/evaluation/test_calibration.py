"""The expected calibration error, by hand."""

import pytest
import torch

from pauc_hub.evaluation.calibration import expected_calibration_error


def test_by_hand() -> None:
    """Two bins: 0.2 and 0.4 in the lower with outcomes 1 and 0, 0.9 in the upper: (|0.5 - 0.3|·2 +
    |0 - 0.9|)/3.
    """
    confidence, outcome = torch.tensor([0.2, 0.4, 0.9]), torch.tensor([1.0, 0.0, 0.0])
    assert expected_calibration_error(confidence, outcome, bins=2) == pytest.approx((0.4 + 0.9) / 3)


def test_what_comes_true_as_often_as_it_was_stated_has_no_error() -> None:
    confidence = torch.tensor([0.0, 0.5, 0.5, 1.0])
    assert expected_calibration_error(
        confidence, torch.tensor([0.0, 1.0, 0.0, 1.0])
    ) == pytest.approx(0, abs=1e-9)
    assert expected_calibration_error(
        confidence, torch.tensor([0.0, 0.5, 0.5, 1.0])
    ) == pytest.approx(0, abs=1e-9)
    assert expected_calibration_error(torch.ones(2), torch.tensor([0.0, 0.5])) == pytest.approx(
        0.75
    )
