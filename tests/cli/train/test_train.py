"""`pauc train` as a whole: exit codes, what is printed where, the files of a run, and signals that
lose nothing.
"""

import dataclasses
import inspect
import json
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs_by_command import FILES, TRAIN, facts, left, metrics

from pauc_hub.cli import run
from pauc_hub.cli.train import train
from pauc_hub.models.folder import open_folder
from pauc_hub.training import loop
from pauc_hub.training.config import Config
from pauc_hub.training.state import take_step


def test_a_run_leaves_its_config_metrics_checkpoint_and_model(finished: Path) -> None:
    assert left(finished / "run") == FILES
    config = json.loads((finished / "run" / "config.json").read_text())
    given = {
        "epochs": 2,
        "size": 32,
        "batch_size": 16,
        "queue": 32,
        "clusters": [2, 4],
        "objective": "pauc",
    }
    assert given.items() <= config.items()


def test_the_model_folder_is_whole_and_of_the_stock_architecture(finished: Path) -> None:
    folder = open_folder(finished / "run" / "model")
    folder.verify()
    assert folder.architecture == "resnet18"
    assert [len(prototypes.sizes) for prototypes in folder.read_prototypes()] == [2, 4]
    assert [int(prototypes.sizes.sum()) for prototypes in folder.read_prototypes()] == [60, 60]
    assert folder.read_projector() is not None


def test_the_receipts_say_what_was_typed_and_seen(finished: Path) -> None:
    found = facts(finished)
    assert found["command"] == shlex.join(["pauc", *TRAIN, "--epochs", "2"])
    assert (found["name"], found["architecture"], found["epochs"]) == ("run", "resnet18", 2)
    assert found["data"]["name"] == "photos"
    assert (found["data"]["images"], found["data"]["unreadable"]) == (60, 0)
    assert found["seconds"] > 0


def test_metrics_tell_of_every_epoch(finished: Path) -> None:
    lines = metrics(finished)
    # 60 // 16 = 3 steps
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 3), (1, 0), (1, 3), (2, 0)]
    warm_up, first, learning, second = (line.keys() for line in lines)
    assert warm_up == {"epoch", "step", "loss", "alignment", "infonce", "lr"}
    assert first == warm_up | {
        "images_per_second",
        "data_wait",
        "mstep_seconds",
        "estep_share",
        "memory_gib",
    }
    assert learning == warm_up | {"align", "unif", "corr", "batch_singletons"}
    assert {
        "align",
        "intra_share",
        "effective_rank",
        "size_entropy",
        "estep_seconds",
        "mstep_seconds",
    } < second


def test_every_metric_is_documented(finished: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "monitoring.md").read_text()
    table = page.partition("| field | lines | |\n")[2].partition("\n\n")[0]
    documented = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    }
    seen = {name for line in metrics(finished) for name in line}
    # of protonce, with a weight, from the second E-step on, with labelled images, on a GPU, and
    # after an error
    assert documented - seen == {
        "proto",
        "scatter",
        "assignment_nmi",
        "knn",
        "gpu_memory_gib",
        "failed",
    }
    assert seen <= documented


def test_json_is_one_object_and_quiet_is_quiet(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told by resuming what is finished, which also must not fail."""
    before, weights = metrics(there), (there / "run" / "model" / "model.safetensors").read_bytes()
    command = ["train", "photos", "-o", "run", "--resume", "--device", "cpu", "--quiet", "--json"]
    assert run(command) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found.pop("verdict") in ("stuck", "too short to tell")  # of six steps
    assert found == {
        "model": "run/model",
        "run": "run",
        "images": 60,
        "unreadable": 0,
        "finished": True,
    }
    assert printed.err == ""
    assert metrics(there) == before
    assert (there / "run" / "model" / "model.safetensors").read_bytes() == weights
    assert facts(there)["command"] == shlex.join(["pauc", *TRAIN, "--epochs", "2"])
    assert left(there / "run") == FILES


def test_prose_goes_to_the_right_streams_and_overwrite_starts_anew(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "photos" / "07.png").write_bytes(b"")
    (there / "photos" / "film.mov").touch()
    (there / "run" / "notes.txt").write_text("mine")
    assert run([*TRAIN, "--epochs", "1", "--objective", "infonce", "--overwrite"]) == 3
    printed = capsys.readouterr()
    verdict, again = printed.out.split(". ")
    assert again == "Embed with it: pauc embed IMAGES -m run/model\n"
    passed_over, *chosen, epoch, warning = (
        line for line in printed.err.splitlines() if not line.startswith("warning: stuck")
    )
    assert verdict in (
        "run/model: trained; verdict: stuck",
        "run/model: trained; verdict: too short to tell",
    )
    assert passed_over == "warning: 1 file passed over: 1 .mov"
    assert (
        chosen[0]
        == "60 images; chosen for them and this machine, where nothing else was asked for:"
    )
    told = [line.split()[0] for line in chosen[1:-3]]
    assert chosen[-3].startswith(
        "the model's prototypes will be uncalibrated: 0.01 of 60 images is less than the 40 "
    )
    # the rest stands in the file or on the command line
    assert told == ["architecture", "norm_group", "lr"]
    assert [line.split(" has")[0] for line in chosen[-2:]] == [
        "warning: --clusters 2,4",
        "warning: --set kmeans=torch",
    ]
    assert epoch.startswith("epoch 1/1: loss ")
    assert warning == "warning: 1 of 60 images could not be read; listed in run/unreadable.txt"
    assert (there / "run" / "unreadable.txt").read_text() == "07.png\tthe file has no bytes\n"
    assert left(there / "run") == sorted([*FILES, "notes.txt", "unreadable.txt"])
    assert facts(there)["config"]["objective"] == "infonce"
    assert [(line["epoch"], line["step"]) for line in metrics(there)] == [(0, 3), (1, 0)]


def test_settings_are_listed_without_anything_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--list-settings"]) == 0
    printed = capsys.readouterr()
    assert "size = 224  [whole number, pixels]\n    Side of the square views.\n" in printed.out
    assert len(printed.out.splitlines()) == 1 + 2 * len(dataclasses.fields(Config))
    assert left(here) == ["photos", "tiny.toml"]
    assert run(["train", "--help"]) == 0
    assert "pauc train --list-settings" in " ".join(capsys.readouterr().out.split())


def test_help_says_who_sets_what_is_not_given() -> None:
    told = {
        name: parameter.annotation.__metadata__[0].show_default
        for name, parameter in inspect.signature(train).parameters.items()
        if hasattr(Config, name)
    }
    # typer's own: there is none to show
    assert (told.pop("labelled"), told.pop("weights_from")) == (True, True)
    assert told.pop("freeze") == "all but the last quarter"
    by_recipe = ("objective", "architecture", "size", "epochs", "batch_size", "lr", "clusters")
    assert told == dict.fromkeys(by_recipe, "the recipe's") | {
        "precision": Config.precision,
        "seed": str(Config.seed),
    }


# --- signals


def test_signals_save_and_say_how_to_go_on(
    here: Path,
    program: Callable[..., int],
    signalled: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = [*TRAIN, "--epochs", "5", "--architecture", "test_resnet"]
    command = first
    # an epoch has three steps, and the signal comes in the second one
    for number, step, epoch in ((signal.SIGINT, 5, 2), (signal.SIGTERM, 3, 3)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "take_step", signalled(number, step, take_step))
            assert program(*command) == 130
        *_, last = capsys.readouterr().err.splitlines()
        said, _, again = last.partition("; all that was done is saved. Go on with: pauc ")
        assert said == f"error: stopped in epoch {epoch} of 5"
        assert again == "train photos -o run --resume"
        assert left(here / "run") == ["checkpoints", "config.json", "metrics.jsonl", "tensorboard"]
        command = shlex.split(again)
    assert run(["train", "photos", "-o", "run", "--export"]) == 0
    done = facts(here)["unfinished"]["epoch"]
    assert capsys.readouterr().out.startswith(
        f"run/model: made after {done} of 5 epochs; verdict: too early to tell. "
    )
    assert run(command) == 0
    assert capsys.readouterr().out.startswith("run/model: trained; verdict: ")
    lines = metrics(here)
    places = [(epoch, 3) for epoch in range(5)] + [(epoch, 0) for epoch in range(1, 6)]
    assert [(line["epoch"], line["step"]) for line in lines] == sorted(places)
    assert all("intra_share" in line for line in lines if line["step"] == 0 and line["epoch"] > 1)
    assert left(here / "run") == FILES
    assert facts(here)["command"] == shlex.join(["pauc", *first])
