"""A run that was stopped and resumed is the run that was never stopped: same losses, same weights,
tolerance 0.
"""

import dataclasses
import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from resumed_runs import CONFIG, STEPS, after_call, crash_in_step, losses, same, weights

from pauc_hub.errors import Interrupted, TrainingFailed, UsageError
from pauc_hub.training import estep, loop, state
from pauc_hub.training.run import checkpoint_files, run_folder

# the package has the function by that name
lloyd = importlib.import_module("pauc_hub.clustering.kmeans.lloyd")


def test_a_run_of_another_seed_does_not_match(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    loop.train(images, tmp_path / "run", dataclasses.replace(CONFIG, seed=1), quiet=True)
    assert losses(tmp_path / "run") != losses(undisturbed)
    assert not same(weights(tmp_path / "run"), weights(undisturbed))


def test_more_workers_change_nothing(images: Path, undisturbed: Path, tmp_path: Path) -> None:
    loop.train(images, tmp_path / "run", CONFIG, quiet=True, workers=3)
    assert losses(tmp_path / "run") == losses(undisturbed)
    assert same(weights(tmp_path / "run"), weights(undisturbed))


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (loop, "take_step", [2]),  # within the warm-up
        (loop, "take_step", [STEPS]),  # in the last step of the warm-up
        (estep, "encode_squares", [1]),  # within the first E-step
        (lloyd, "best_scores", [2]),  # within its k-means
        (loop, "take_step", [STEPS + 2]),  # with prototypes
        (loop, "take_step", [STEPS + 1, 1, 2, 3]),  # again and again
        # within the E-step that the model folder is made of
        (estep, "encode_squares", [2 * 3 - 1]),
    ],
)
def test_a_stopped_and_resumed_run_equals_the_undisturbed_one(
    module: Any, name: str, calls: list[int], images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for i, count in enumerate(calls):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, after_call(count, getattr(module, name)))
            with pytest.raises(Interrupted, match=r"saved\. Go on with: pauc train "):
                loop.train(images, run, None if i else CONFIG, resume=bool(i), quiet=True)
        assert not (run / run_folder.MODEL).exists()
    loop.train(images, run, resume=True, quiet=True)
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adamw", "lr": 0.001, "momentum_rises": True},
        {"optimiser": "lars", "lr": 5.0},
        # the views' side changes between the two sittings, and at the end statistics are measured
        # anew
        {"size": 40, "progressive_sizes": (32,), "progressive_share": 1 / 3, "small_views": 1},
        {"prototypes_from": "batch_and_queue", "weight_scatter": 0.1, "shuffle_assignments": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_with_other_settings_a_run_resumes_exactly_too(
    settings: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, epochs=2, **settings)
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    loop.train(images, undisturbed, config, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", after_call(2, state.take_step))
        with pytest.raises(Interrupted):
            loop.train(images, run, config, quiet=True)
    loop.train(images, run, resume=True, quiet=True)
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))


def test_k_means_is_not_finished_before_a_stop(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, searches = tmp_path / "run", 0
    search = after_call(2, lloyd.best_scores)

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal searches
        searches += 1
        return search(*arguments, **named)

    monkeypatch.setattr(lloyd, "best_scores", counted)
    with pytest.raises(Interrupted):
        loop.train(images, run, CONFIG, quiet=True)
    assert searches == 2
    assert checkpoint_files.standing(run)[0].stem == "00001-0000000"


def test_work_after_the_last_checkpoint_is_done_again_and_not_told_twice(
    images: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash: nothing is saved at the moment itself."""
    run = tmp_path / "run"
    crash_in_step(STEPS + 3, monkeypatch, images, run)
    assert len(losses(run)) == STEPS + 1 + 2  # two steps past the checkpoint of the first epoch
    loop.train(images, run, resume=True, quiet=True)
    assert losses(run) == losses(undisturbed)


@pytest.mark.parametrize(("seconds", "saved"), [(0, STEPS + 2), (600, STEPS)])
def test_within_an_epoch_checkpoints_come_by_time(
    images: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    saved: int,
) -> None:
    """And then the folders move, which changes nothing."""
    assert state.SECONDS_BETWEEN_CHECKPOINTS == 600
    monkeypatch.setattr(state, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    crash_in_step(STEPS + 3, monkeypatch, images, tmp_path / "run")
    run = (tmp_path / "run").rename(tmp_path / "moved")
    elsewhere = shutil.copytree(images, tmp_path / "elsewhere")
    steps = 0

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return state.take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", counted)
    loop.train(elsewhere, run, resume=True, quiet=True)
    assert steps == STEPS * CONFIG.epochs - saved
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))


def test_with_a_damaged_checkpoint_the_run_goes_on_from_the_one_before(
    images: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    crash_in_step(2 * STEPS + 2, monkeypatch, images, run)
    newest, before = checkpoint_files.standing(run)
    assert (newest.stem, before.stem) == ("00002-0000000", "00001-0000000")
    newest.write_bytes(newest.read_bytes()[:-1])
    loop.train(images, run, resume=True)
    warnings = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")
    ]
    assert len(warnings) == 1
    assert warnings[0].endswith("going on from the checkpoint before it, at epoch 2, step 0")
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))
    assert len(checkpoint_files.standing(run)) == 1


def test_a_run_without_a_checkpoint_begins_at_the_start(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run_folder.begin(run, CONFIG.resolve(43), overwrite=False)
    loop.train(images, run, resume=True, quiet=True)
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))


def test_a_disk_without_room_for_a_checkpoint_is_told_of_at_once(
    images: Path, tmp_path: Path, files_of_at_most: Any
) -> None:
    with (
        files_of_at_most(100_000),
        pytest.raises(TrainingFailed, match=r"checkpoint could not be written.*too large"),
    ):
        loop.train(images, tmp_path / "run", CONFIG, quiet=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "config.json",
    ]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_model_folder_that_does_not_fit_is_one_line_and_leaves_the_run(
    images: Path, undisturbed: Path, tmp_path: Path, files_of_at_most: Any
) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "run")
    before = weights(run)
    with files_of_at_most(100_000), pytest.raises(TrainingFailed) as failed:
        loop.train(images, run, resume=True, quiet=True)
    assert str(failed.value) == (
        f"'{run / 'model'}' could not be written (File too large). What was saved before still "
        "stands: resume=True."
    )
    assert same(weights(run), before)
    left = ["checkpoints", "config.json", "curves.png", "metrics.jsonl", "model", "tensorboard"]
    assert sorted(path.name for path in run.iterdir()) == left


def test_resuming_with_other_images_is_refused(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "other.png")
    for path in images.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"the images are not those that .* was started with"):
        loop.train(tmp_path, undisturbed, resume=True, quiet=True)
