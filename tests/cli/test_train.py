"""`pauc train` as a whole: exit codes, what is printed where, the files of a run, and signals that
lose nothing.
"""

import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.cli.train import train
from pauc_hub.files.locks import locked
from pauc_hub.images.formats import SUFFIXES
from pauc_hub.models.folder import open_folder
from pauc_hub.training import loop
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring import boards
from pauc_hub.training.state import take_step

SETTINGS = """\
size = 32
batch_size = 16
queue = 32
dim = 16
clusters = [2, 4]
crop_min = 0.5
precision = "fp32"
kmeans = "torch"
"""
TRAIN = (
    "train",
    "photos",
    "-o",
    "run",
    "--config",
    "tiny.toml",
    "--device",
    "cpu",
    "--workers",
    "1",
)
FILES = ["checkpoints", "config.json", "curves.png", "metrics.jsonl", "model", "tensorboard"]


def write_photos(root: Path, count: int = 60) -> None:
    """Coarse noise of 32 x 32 pixels."""
    root.mkdir()
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(root / f"{i:02}.png")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two epochs were trained by the command: photos/, tiny.toml and run/."""
    folder = tmp_path_factory.mktemp("finished")
    write_photos(folder / "photos")
    (folder / "tiny.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["pauc", *TRAIN, "--epochs", "2"])
        assert run([*TRAIN, "--epochs", "2", "--quiet"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with photos/ and tiny.toml, and no run yet."""
    write_photos(tmp_path / "photos")
    (tmp_path / "tiny.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def there(finished: Path, here: Path) -> Path:
    """The same with the finished run in it."""
    # files are replaced, never changed
    shutil.copytree(finished / "run", here / "run", copy_function=os.link)
    (here / "run" / "metrics.jsonl").unlink()
    shutil.copy(finished / "run" / "metrics.jsonl", here / "run")  # but for this one, which grows
    return here


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "model" / "facts.json").read_text())
    return found


# --- a run from end to end


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
    page = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text()
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
    assert (
        run(["train", "photos", "-o", "run", "--resume", "--device", "cpu", "--quiet", "--json"])
        == 0
    )
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
        ("run/model: trained; verdict: too short to tell"),
    )
    assert passed_over == "warning: 1 file passed over: 1 .mov"
    assert chosen[0] == (
        "60 images; chosen for them and this machine, where nothing else was asked for:"
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


# --- refusals, each before anything is written


CANNOT = "the configuration cannot be trained: "
LISTED = "`pauc train --list-settings` shows all settings."
RUNS_OWN = (
    "--resume goes on with the run's own settings: beside it give -o, --epochs, --device, "
    "--workers alone."
)
AS_IT_IS = "--export takes the run as it is: beside it give -o, --device, --workers alone."
NO_OUTPUT = "-o is missing: the folder that the run goes into. Only --dry-run needs none."
REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("train", "photos"), 2, NO_OUTPUT),
    (("train", "nowhere", "-o", "run"), 2, "no such file or folder: 'nowhere'"),
    (
        (*TRAIN, "--objective", "moco"),
        2,
        (f"{CANNOT}--objective moco is none of infonce, protonce, pauc."),
    ),
    (
        (*TRAIN, "--epochs", "0", "--lr", "-1", "--clusters", "9,3", "--batch-size", "64"),
        2,
        (
            f"{CANNOT}--epochs 0 must be 1 or more; --lr -1 must be a finite number above 0; "
            "--batch-size 64 needs as many images; there are 60; "
            "--set queue=32 must hold the 64 keys of a step at least; --clusters 9,3 must be "
            "rising numbers, 2 or more."
        ),
    ),
    (
        (*TRAIN, "--set", "temprature=0.1"),
        2,
        f"tiny.toml: unknown setting 'temprature' (did you mean temperature?). {LISTED}",
    ),
    ((*TRAIN, "--set", "dim=x"), 2, f"tiny.toml: dim must be a whole number, not 'x'. {LISTED}"),
    ((*TRAIN, "--set", "dim"), 2, "--set 'dim' is not NAME=VALUE, such as --set temperature=0.1."),
    (
        (*TRAIN, "--lr", "1", "--set", "lr=2"),
        2,
        ("lr is given twice. Give it once, by --set or as an option."),
    ),
    (("train", "photos", "-o", "run", "--resume", "--set", "dim=8"), 2, RUNS_OWN),
    (
        (*TRAIN, "--clusters", "3,x"),
        2,
        ("--clusters '3,x' is no list of numbers, such as 250,500,1000."),
    ),
    (
        (*TRAIN, "--clusters", "7"),
        2,
        f"{CANNOT}--clusters 7 needs at least 70 images (10 each); there are 60: give 6 or less.",
    ),
    (
        ("train", "photos", "-o", "run", "--config", "bad.toml"),
        2,
        f"bad.toml: unknown setting 'epoch' (did you mean epochs?). {LISTED}",
    ),
    (
        ("train", "photos", "-o", "run", "--config", "no.toml"),
        2,
        "--config no.toml cannot be read: [Errno 2] No such file or directory: 'no.toml'.",
    ),
    (
        ("train", "photos", "-o", "run", "--resume"),
        2,
        ("nothing to resume: 'run' holds no run. Start without --resume."),
    ),
    ((*TRAIN, "--resume"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--lr", "0.1"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--range", "0,9"), 2, RUNS_OWN),
    ((*TRAIN, "--range", "9,0"), 2, "--range '9,0' is not LOW,HIGH, such as 0,4095, nor `image`."),
    (
        (*TRAIN, "--bands", "red"),
        2,
        ("--bands 'red' is not one or three numbers of bands from 1, such as 3,2,1."),
    ),
    (("train", "photos", "-o", "run", "--resume", "--overwrite"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--dry-run"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--recipe", "own_images"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--epochs", "9", "--lr", "1"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--export"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--export", "--epochs", "9"), 2, AS_IT_IS),
    (("train", "photos", "-o", "run", "--export", "--dry-run"), 2, AS_IT_IS),
    (
        ("train", "photos", "-o", "run", "--export"),
        2,
        ("nothing to export: 'run' holds no checkpoint of a run."),
    ),
    (("train", "photos", "--resume"), 2, NO_OUTPUT),
    (("train", "nowhere", "--dry-run"), 2, "no such file or folder: 'nowhere'"),
    (
        ("train", "photos", "-o", "run", "--recipe", "cifar10"),
        2,
        (
            "unknown recipe 'cifar10'. Did you mean 'cifar10_pauc'? There are cifar10_infonce, "
            "cifar10_pauc, "
            "cifar10_protonce, imagenet100, imagenet1k, own_images, tiny_imagenet."
        ),
    ),
    (
        ("train", "photos", "--dry-run", "--recipe", "tiny_imagenet"),
        2,
        (
            f"{CANNOT}--batch-size 256 needs as many images; there are 60; "
            "--clusters 8000 needs at least 80000 images (10 each); there are 60: give 6 or less."
        ),
    ),
    (
        ("train", "empty", "-o", "run"),
        1,
        (
            f"no images in 'HERE/empty': no file there ends in {', '.join(sorted(SUFFIXES))}, "
            ".tar, .tar.gz, .tgz, .parquet."
        ),
    ),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), REFUSED, ids=lambda value: str(value)[:40]
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (here / "empty").mkdir()
    (here / "bad.toml").write_text("epoch = 3\n")
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.err == f"error: {message.replace('HERE', str(here))}\n"
    assert printed.out == ""
    assert left(here) == ["bad.toml", "empty", "photos", "tiny.toml"]


def test_a_run_that_stands_there_is_refused(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (there / "run").rglob("*")}
    assert run([*TRAIN, "--epochs", "2"]) == 1
    assert capsys.readouterr().err == (
        "error: 'run' already holds a run. Go on with --resume, start anew with --overwrite, "
        "or give another folder.\n"
    )
    assert {path: path.stat().st_mtime_ns for path in (there / "run").rglob("*")} == before


def test_what_watches_a_run_is_asked_for_by_options_and_refused_first(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = "needs 2 or more subfolders with images, one for each class; it has none."
    for command in (TRAIN, [*TRAIN, "--dry-run"]):  # neither prints anything before
        assert run([*command, "--labelled", "photos"]) == 2
        assert capsys.readouterr().err == f"error: labelled images: '{here / 'photos'}' {needs}\n"
    monkeypatch.setattr(boards, "find_spec", lambda _: None)
    assert run([*TRAIN, "--wandb", "mine", "--quiet"]) == 2
    absent = "--wandb mine needs a package that is not installed: pip install 'pauc-hub[wandb]'."
    assert capsys.readouterr().err == f"error: {absent}\n"
    assert left(here) == ["photos", "tiny.toml"]


def test_a_resume_with_other_images_is_refused(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "photos" / "07.png").unlink()
    assert run(["train", "photos", "-o", "run", "--resume"]) == 2
    assert capsys.readouterr().err == (
        "error: the images are not those that 'run' was started with. Start anew with "
        "--overwrite.\n"
    )


def test_a_second_process_is_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (there / "run").rglob("*")}
    with locked(there / "run", "nobody else is there"):
        for option in ("--resume", "--overwrite"):
            assert run(["train", "photos", "-o", "run", option]) == 1
            *_, said = capsys.readouterr().err.splitlines()
            assert said == (
                "error: another process is training into 'run'. Wait for it, or give another "
                "folder."
            )
    assert {path: path.stat().st_mtime_ns for path in (there / "run").rglob("*")} == before


def test_an_output_that_is_a_file_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run").write_text("mine")
    assert run([*TRAIN, "--quiet"]) == 2
    assert capsys.readouterr().err == (
        "error: 'run' could not be written (File exists). Give another folder.\n"
    )
    assert run(["train", "photos", "-o", "run", "--resume"]) == 2
    assert capsys.readouterr().err == (
        "error: nothing to resume: 'run' holds no run. Start without --resume.\n"
    )
    assert (here / "run").read_text() == "mine"


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
