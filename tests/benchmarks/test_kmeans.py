"""What the k-means benchmark compares: an iteration's time, and that all end alike."""

from pathlib import Path

import kmeans as benchmark
import pytest
from measuring import Journal


def test_an_iteration_is_what_more_of_them_take_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is said to take 7 s, and 3 s an iteration."""
    monkeypatch.setattr(
        benchmark,
        "seconds_of",
        lambda work: 7.0 + 3.0 * work.args[2] if len(work.args) == 3 else 7.0,
    )
    found = benchmark.compare(3000, 20, 1, 4, 2, Journal(tmp_path / "some.json", {}))
    assert set(found["seconds_per_iteration"].values()) == {3.0}
    assert len(found["repetitions"]) == 2
    objectives = found["objective_after_long_run"]
    assert benchmark.LIMIT not in objectives
    assert objectives == pytest.approx(dict.fromkeys(objectives, objectives["torch"]), rel=1e-3)
