"""From which similarity on a test image is a copy: measured where that tells copies apart, else a fixed one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pauc_hub.answers import duplicate_threshold
from pauc_hub.answers.duplicate_threshold import UNCALIBRATED, Threshold, calibrate_for_leakage
from pauc_hub.answers.inputs import Given
from pauc_hub.retrieval.leakage import SAME_PICTURE

FIXED = Threshold(SAME_PICTURE)


@pytest.mark.parametrize(
    ("found", "asked", "is_taken"),
    [
        # 5 of the 4950 pairs of 100 images: one in ten of each, so of 5 test images half of one might be false
        (Threshold(0.98, 0.95, 60, 5.0), 5, True),
        (Threshold(0.98, 0.95, 60, 5.0), 50, False),
        (Threshold(0.98, 0.95, 60, 0.4), 1000, True),
        (Threshold(0.98, 0.95, 60, 0.6), 1000, False),
        (Threshold(0.9995, 0.95, 60, 0.0), 5, False),
        (Threshold(UNCALIBRATED), 5, False),
    ],
)
def test_a_measured_threshold_is_taken_where_few_others_reach_it(
    monkeypatch: pytest.MonkeyPatch, found: Threshold, asked: int, is_taken: bool
) -> None:
    def measured(*given: Any) -> Threshold:
        return found

    monkeypatch.setattr(duplicate_threshold, "calibrate", measured)
    table: Any = Path("no table is read")
    given: Given = table
    chosen = calibrate_for_leakage(given, np.zeros((100, 2), np.float32), [""] * 100, asked, "cpu")
    assert chosen == (found if is_taken else FIXED)
