"""What `pauc train` refuses: each in one line, and before anything is written."""

from pathlib import Path

import pytest
from runs_by_command import TRAIN, left

from pauc_hub.cli import run
from pauc_hub.files.locks import locked
from pauc_hub.images.formats import IMAGE_SUFFIXES
from pauc_hub.training.monitoring import boards

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
        f"{CANNOT}--objective moco is none of infonce, protonce, pauc.",
    ),
    (
        (*TRAIN, "--epochs", "0", "--lr", "-1", "--clusters", "9,3", "--batch-size", "64"),
        2,
        (
            f"{CANNOT}--epochs 0 must be 1 or more; --lr -1 must be a finite number above 0; "
            "--batch-size 64 needs as many images; there are 60; "
            "--set queue=32 must hold the 64 keys of a step at least; "
            "--clusters 9,3 must be rising numbers, 2 or more."
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
        "lr is given twice. Give it once, by --set or as an option.",
    ),
    (("train", "photos", "-o", "run", "--resume", "--set", "dim=8"), 2, RUNS_OWN),
    (
        (*TRAIN, "--clusters", "3,x"),
        2,
        "--clusters '3,x' is no list of numbers, such as 250,500,1000.",
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
        "nothing to resume: 'run' holds no run. Start without --resume.",
    ),
    ((*TRAIN, "--resume"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--lr", "0.1"), 2, RUNS_OWN),
    (("train", "photos", "-o", "run", "--resume", "--range", "0,9"), 2, RUNS_OWN),
    ((*TRAIN, "--range", "9,0"), 2, "--range '9,0' is not LOW,HIGH, such as 0,4095, nor `image`."),
    (
        (*TRAIN, "--bands", "red"),
        2,
        "--bands 'red' is not one or three numbers of bands from 1, such as 3,2,1.",
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
        "nothing to export: 'run' holds no checkpoint of a run.",
    ),
    (("train", "photos", "--resume"), 2, NO_OUTPUT),
    (("train", "nowhere", "--dry-run"), 2, "no such file or folder: 'nowhere'"),
    (
        ("train", "photos", "-o", "run", "--recipe", "cifar10"),
        2,
        (
            "unknown recipe 'cifar10'. Did you mean 'cifar10_pauc'? There are cifar10_infonce, "
            "cifar10_pauc, cifar10_protonce, imagenet100, imagenet1k, own_images, tiny_imagenet."
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
            "no images in 'HERE/empty': no file there ends in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}, .tar, .tar.gz, .tgz, .parquet."
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
    assert (
        capsys.readouterr().err
        == "error: 'run' could not be written (File exists). Give another folder.\n"
    )
    assert run(["train", "photos", "-o", "run", "--resume"]) == 2
    assert (
        capsys.readouterr().err
        == "error: nothing to resume: 'run' holds no run. Start without --resume.\n"
    )
    assert (here / "run").read_text() == "mine"
