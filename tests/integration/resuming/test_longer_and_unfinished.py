"""A run that goes on for longer than was planned, and one whose model is wanted before its end."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import STEPS, after_call, crash_in_step, losses, same, weights

from pauc_hub.errors import Interrupted, UsageError
from pauc_hub.models.folder import open_folder
from pauc_hub.training import loop, state
from pauc_hub.training.run import checkpoint_files, run_folder
from pauc_hub.training.schedule import laid_anew, learning_rate


def facts(run: Path) -> dict[str, Any]:
    return open_folder(run / run_folder.MODEL).facts


def test_a_finished_run_goes_on_for_longer_under_a_schedule_laid_anew(
    images: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer, stopped = (
        shutil.copytree(undisturbed, tmp_path / name) for name in ("longer", "stopped")
    )
    loop.train(images, longer, resume=True, epochs=5, command="pauc train x --resume --epochs 5")
    said = capsys.readouterr().err.splitlines()[0]
    laid = run_folder.saved_config(longer)
    rate = learning_rate(laid, 3 * STEPS, 5 * STEPS)
    assert said == (
        "going on in epoch 4 under a schedule laid anew, of 5 epochs (3 before): "
        f"the learning rate follows a cosine over them, and is now {rate:.3g}"
    )
    assert laid == laid_anew(run_folder.saved_config(undisturbed), 5)
    before = losses(undisturbed)
    assert losses(longer)[: len(before)] == before
    first = next(line for line in losses(longer) if (line["epoch"], line["step"]) == (3, 1))
    assert first["lr"] == pytest.approx(rate)
    assert rate > before[-1]["lr"]
    found = facts(longer)
    assert (found["epochs"], found["config"]["epochs"]) == (5, 5)
    assert found["schedules"] == [
        {
            "epoch": 3,
            "step": 0,
            "before": 3,
            "epochs": 5,
            "command": "pauc train x --resume --epochs 5",
        }
    ]
    assert "unfinished" not in found
    # stopped on the way, it is still the same run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", after_call(2, state.take_step))
        with pytest.raises(Interrupted, match="stopped in epoch 4 of 5"):
            loop.train(images, stopped, resume=True, epochs=5, command="longer", quiet=True)
    loop.train(images, stopped, resume=True, command="again", quiet=True)
    assert losses(stopped) == losses(longer)
    assert same(weights(stopped), weights(longer))
    assert [laid["command"] for laid in facts(stopped)["schedules"]] == ["longer"]


def test_fewer_epochs_than_are_done_are_refused_and_change_nothing(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "run")
    before = (run / run_folder.CONFIG).read_bytes()
    for epochs in (2, 0, -1):
        with pytest.raises(
            UsageError,
            match=rf"^epochs={epochs} is too few: '.*' is in epoch 3\. Give that or more\.$",
        ):
            loop.train(images, run, resume=True, epochs=epochs, quiet=True)
    assert (run / run_folder.CONFIG).read_bytes() == before


def test_a_schedule_is_noted_though_the_run_was_killed_when_it_had_been_laid(
    images: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "run")
    run_folder.lay_schedule_anew(run, run_folder.saved_config(run), 4, None)
    loop.train(images, run, resume=True, command="pauc train --resume", quiet=True)
    assert [(laid["before"], laid["epochs"]) for laid in facts(run)["schedules"]] == [(3, 4)]


def test_an_unfinished_run_is_exported_as_it_is_and_goes_on_unchanged(
    images: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    crash_in_step(STEPS + 3, monkeypatch, images, run)
    kept = {path.name: path.read_bytes() for path in checkpoint_files.standing(run)}
    saved = checkpoint_files.tensors_in(checkpoint_files.standing(run)[0], torch.device("cpu"))
    model = loop.train(images, run, export=True, quiet=True)
    assert {path.name: path.read_bytes() for path in checkpoint_files.standing(run)} == kept
    found = facts(run)
    assert (found["epochs"], found["unfinished"]) == (1, {"epoch": 1, "step": 0, "epochs": 3})
    assert (
        "**Unfinished**: made of a checkpoint after epoch 1 of 3 epochs"
        in (model / "README.md").read_text()
    )
    for name, weight in open_folder(model).read_backbone().items():
        assert torch.allclose(
            weight.float(), saved[f"pair.query.backbone.{name}"].float(), atol=1e-3
        )
    assert [int(each.sizes.sum()) for each in open_folder(model).read_prototypes()] == [43, 43]
    loop.train(images, run, resume=True, quiet=True)
    assert losses(run) == losses(undisturbed)
    assert same(weights(run), weights(undisturbed))
    assert "unfinished" not in facts(run)


def test_there_is_nothing_to_export_without_a_checkpoint(images: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^nothing to export: '.*run' holds no checkpoint of a run\.$"
    ):
        loop.train(images, tmp_path / "run", export=True, quiet=True)
    assert not (tmp_path / "run").exists()
