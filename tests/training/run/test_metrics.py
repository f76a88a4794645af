"""A metrics.jsonl that never tells of work that was lost, however its process ended."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pauc_hub.errors import TrainingFailed
from pauc_hub.training.run.run_folder import Metrics


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def full_disk(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_metrics_are_lines_of_steps_and_epochs_with_means(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, 0)
    metrics.write_step(0, 10, {"loss": 4.0, "infonce": 3.0, "lr": 0.1})
    metrics.write_step(0, 13, {"loss": 2.0, "infonce": 2.5, "lr": 0.2})
    line = {"epoch": 1, "step": 0, "loss": 3.0, "infonce": 2.75, "lr": 0.2, "knn": 9.0}
    assert metrics.write_epoch(1, {"knn": 9.0}) == line
    metrics.write_step(1, 13, {"loss": 1.0, "lr": 0.1})
    metrics.write_epoch(2, {})
    assert lines(tmp_path) == [
        {"epoch": 0, "step": 10, "loss": 4.0, "infonce": 3.0, "lr": 0.1},
        {"epoch": 0, "step": 13, "loss": 2.0, "infonce": 2.5, "lr": 0.2},
        line,
        {"epoch": 1, "step": 13, "loss": 1.0, "lr": 0.1},
        {"epoch": 2, "step": 0, "loss": 1.0, "lr": 0.1},
    ]


def test_an_epoch_without_lines_has_no_means(tmp_path: Path) -> None:
    Metrics(tmp_path, 0, 0).write_epoch(1, {"knn": 1.0})
    assert lines(tmp_path) == [{"epoch": 1, "step": 0, "knn": 1.0}]


@pytest.mark.parametrize(
    ("place", "kept"),
    [((0, 0), 0), ((0, 10), 1), ((0, 19), 1), ((1, 0), 3), ((1, 5), 3), ((1, 10), 4), ((9, 0), 5)],
)
def test_lines_past_the_checkpoint_are_dropped(
    tmp_path: Path, place: tuple[int, int], kept: int
) -> None:
    before = Metrics(tmp_path, 0, 0)
    for epoch in (0, 1):
        for step in (10, 20)[: 2 - epoch]:
            before.write_step(epoch, step, {"loss": 1.0})
        before.write_epoch(epoch + 1, {})
    everything = lines(tmp_path)
    Metrics(tmp_path, *place)
    assert lines(tmp_path) == everything[:kept]


def test_means_include_the_lines_of_the_sitting_before(tmp_path: Path) -> None:
    before = Metrics(tmp_path, 0, 0)
    before.write_step(0, 30, {"loss": 50.0})
    before.write_epoch(1, {})
    for step, loss in ((10, 4.0), (20, 3.0), (30, 100.0)):
        before.write_step(1, step, {"loss": loss})
    after = Metrics(tmp_path, 1, 25)
    after.write_step(1, 30, {"loss": 2.0})
    assert after.write_epoch(2, {})["loss"] == 3.0


@pytest.mark.parametrize(
    "end", ['{"epoch": 0, "ste', '{"epoch": 0}\n', "\x00\x00\x00", "7\n", '{"epoch": 0, "step": 20']
)
def test_a_last_line_cut_short_is_dropped(tmp_path: Path, end: str) -> None:
    Metrics(tmp_path, 0, 0).write_step(0, 10, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(end)
    Metrics(tmp_path, 1, 0).write_step(1, 10, {"loss": 2.0})
    assert [line["loss"] for line in lines(tmp_path)] == [1.0, 2.0]


def test_a_last_line_that_lacks_its_end_alone_is_kept(tmp_path: Path) -> None:
    Metrics(tmp_path, 0, 0).write_step(0, 10, {"loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().removesuffix("\n"))
    Metrics(tmp_path, 0, 10).write_step(0, 20, {"loss": 2.0})
    assert [line["loss"] for line in lines(tmp_path)] == [1.0, 2.0]


def test_a_full_disk_is_one_line_and_loses_no_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(tmp_path, 0, 0)
    metrics.write_step(0, 10, {"loss": 1.0})
    expected = (
        f"'{tmp_path / 'metrics.jsonl'}' could not be written (No space left on device). "
        "What was saved before still stands: resume=True."
    )
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full_disk)
        with pytest.raises(TrainingFailed) as failed:
            metrics.write_step(0, 20, {"loss": 1.0})
        assert str(failed.value) == expected
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(TrainingFailed) as failed:
            Metrics(tmp_path, 0, 0)
        assert str(failed.value) == expected
    assert lines(tmp_path) == [{"epoch": 0, "step": 10, "loss": 1.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_error_that_a_run_ended_with_is_its_last_line_until_it_goes_on(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, 0)
    metrics.write_step(0, 10, {"loss": float("inf")})
    metrics.write_failure(0, 10, "diverged")
    assert lines(tmp_path) == [
        {"epoch": 0, "step": 10, "loss": None},  # JSON has no word for infinity
        {"epoch": 0, "step": 10, "failed": "diverged"},
    ]
    Metrics(tmp_path, 0, 10)
    assert lines(tmp_path) == [{"epoch": 0, "step": 10, "loss": None}]


def test_an_error_that_cannot_be_noted_is_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(tmp_path, 0, 0)
    monkeypatch.setattr(Path, "open", full_disk)
    metrics.write_failure(0, 10, "the disk is full")


def test_a_process_that_does_not_write_leaves_the_file_alone(tmp_path: Path) -> None:
    before = '{"epoch": 9, "step": 9}\n'
    (tmp_path / "metrics.jsonl").write_text(before)
    metrics = Metrics(tmp_path, 0, 0, written=False)
    metrics.write_step(0, 1, {"loss": 2.0})
    assert metrics.write_epoch(1, {}) == {"epoch": 1, "step": 0, "loss": 2.0}
    assert (tmp_path / "metrics.jsonl").read_text() == before
