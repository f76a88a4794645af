"""A run read from its folder: whole, going on, cut short, or none."""

import json
from math import isnan
from pathlib import Path

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.run import run_folder

CONFIG = Config(epochs=3).resolve(1000)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    run_folder.begin(tmp_path, CONFIG, overwrite=False)
    metrics = run_folder.Metrics(tmp_path, 0, 0)
    metrics.write_step(0, 7, {"loss": 4.0, "lr": 0.1})
    metrics.write_epoch(1, {"knn": 0.5})
    metrics.write_step(1, 3, {"loss": float("nan"), "lr": 0.1})
    metrics.write_failure(1, 3, "it went wrong")
    found = read_history(tmp_path)
    assert (found.config, found.failure) == (CONFIG, "it went wrong")
    assert (found.epochs_done, found.steps_an_epoch, found.steps_done) == (1, 7, 10)
    assert found.steps[-1]["loss"] is None  # JSON that any reader takes
    assert found.series("knn") == ([1], [0.5])
    assert found.series("intra_share") == ([], [])


def test_an_epochs_number_that_is_not_finite_is_nan(tmp_path: Path) -> None:
    run_folder.begin(tmp_path, CONFIG, overwrite=False)
    run_folder.Metrics(tmp_path, 0, 0).write_epoch(1, {"uniformity": float("inf")})
    assert isnan(read_history(tmp_path).series("uniformity")[1][0])


def test_a_run_that_just_began_or_was_killed_can_be_read(tmp_path: Path) -> None:
    run_folder.begin(tmp_path, CONFIG, overwrite=False)
    assert (read_history(tmp_path).epochs_done, read_history(tmp_path).steps_done) == (0, 0)
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 0, "step": 5, "loss": 1.0}\n7\n{"epoch": 0}\n{"epoch": 0, "st'
    )
    assert [line["loss"] for line in read_history(tmp_path).steps] == [1.0]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_history(tmp_path)
    assert str(refused.value) == (
        f"'{tmp_path}' holds no run: there is no config.json. Give the folder that `pauc train` "
        "got with -o."
    )
    (tmp_path / "config.json").write_text(json.dumps({"epochs": "many"}))
    with pytest.raises(UsageError, match="epochs must be a whole number"):
        read_history(tmp_path)
