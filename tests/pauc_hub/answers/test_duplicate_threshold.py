"""From which similarity on a test image is a copy: measured, and raised while too many others reach
it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pauc_hub.answers import duplicate_threshold
from pauc_hub.answers.duplicate_threshold import (
    calibrate_for_leakage,
    calibrate_threshold,
    first_within,
)
from pauc_hub.answers.inputs import Given, open_input
from pauc_hub.retrieval.leakage import SAME_PICTURE


@pytest.mark.parametrize(
    ("false_pairs", "most", "expected"),
    [
        ([9.0, 5.0, 2.0, 0.0], None, 0),
        ([9.0, 5.0, 2.0, 0.0], 5.0, 1),
        ([9.0, 5.0], 1.0, 1),
        ([0.0], 0.0, 0),
    ],
)
def test_the_least_threshold_that_few_enough_pairs_reach(
    false_pairs: list[float], most: float | None, expected: int
) -> None:
    assert first_within(false_pairs, most) == expected


@pytest.fixture
def given(tmp_path: Path, write_table: Any) -> tuple[Given, npt.NDArray[np.float32], list[str]]:
    """200 rows in pairs of a cosine of 0.98, and nothing else alike."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    across = rng.standard_normal((100, 64))
    across -= (across * rows).sum(axis=1, keepdims=True) * rows
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    vectors = np.concatenate([rows, 0.98 * rows + (1 - 0.98**2) ** 0.5 * across]).astype(np.float32)
    found = open_input(write_table(tmp_path / "t.parquet", vectors), quiet=True)
    return found, vectors, [f"{i:05}.png" for i in range(200)]


def test_a_measured_threshold_rises_above_images_that_are_merely_alike(
    given: tuple[Given, npt.NDArray[np.float32], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # copies of 40 images reach 0.97, but for one in ten
    similarities = np.tile(np.linspace(0.96, 0.999, 40, dtype=np.float32)[:, None], (1, 3))
    monkeypatch.setattr(duplicate_threshold, "_reachable", lambda *_: list(range(40)))
    monkeypatch.setattr(
        duplicate_threshold, "_similarities", lambda *_: similarities[np.argsort(np.arange(40) % 2)]
    )
    plain = calibrate_threshold(*given, None, "cpu")
    assert plain.value < 0.97
    assert plain.false_pairs == pytest.approx(100)
    # at most one of 5 test images may be no copy, which of 200 rows is 20 pairs
    raised = calibrate_for_leakage(*given, 5, None, "cpu")
    assert 0.98 < raised.value < 0.985
    assert raised.false_pairs == 0
    assert raised.recall is not None
    assert plain.recall is not None
    assert 0.3 < raised.recall < plain.recall


def test_where_no_copy_can_be_made_only_the_same_picture_counts(
    given: tuple[Given, npt.NDArray[np.float32], list[str]],
) -> None:
    assert calibrate_for_leakage(*given, 5, None, "cpu").value == SAME_PICTURE
