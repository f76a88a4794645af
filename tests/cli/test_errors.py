"""Every failure is one line on stderr, with an exit code that means something, and leaves nothing
behind.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.images import formats


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    """A working directory with images, a model, and a few things that stand in the way."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "none", "broken", "folder.parquet", "nothing_to_load"):
        Path(folder).mkdir()
    Image.new("RGB", (20, 20)).save("photos/a.png")
    Path("broken/a.png").write_text("text")
    Path("none/notes.txt").write_text("text")
    Path("there.parquet").write_text("old")
    Path("model").symlink_to(model_folder)


def left() -> set[str]:
    return {str(path) for path in Path().rglob("*") if not path.is_relative_to("model")}


EMBED = ("embed", "photos", "-m", "model", "--device", "cpu")
SUFFIXES = ", ".join(sorted(formats.IMAGE_SUFFIXES))

HELP = "`pauc embed --help` shows what there is."
NO_IMAGE = (
    "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, JPEG2000, PPM, TGA)"
)

CASES: list[tuple[tuple[str, ...], int, str]] = [
    # wrong usage
    (("embed", "nowhere"), 2, "no such file or folder: 'nowhere'"),
    (("embed",), 2, f"Missing argument 'images'. {HELP}"),
    (
        ("embde", "photos"),
        2,
        "No such command 'embde'. Did you mean 'embed'? `pauc --help` shows what there is.",
    ),
    (
        ("embed", "photos", "--sise", "3"),
        2,
        f"No such option: --sise (Possible options: --like, --quiet, --space). {HELP}",
    ),
    (
        (*EMBED, "--batch-size", "0"),
        2,
        f"Invalid value for '--batch-size': Input should be greater than or equal to 1. {HELP}",
    ),
    (
        (*EMBED, "--precision", "fp16"),
        2,
        f"Invalid value for '--precision': 'fp16' is not one of 'auto', 'fp32', 'bf16'. {HELP}",
    ),
    ((*EMBED, "-o", "t.csv"), 2, "the output 't.csv' must end in .parquet, .npy or .safetensors."),
    ((*EMBED, "--pca", "97"), 2, "--pca 97 is more than 1 images can have. Give 1 or less."),
    (
        (*EMBED, "--update", "--overwrite"),
        2,
        "--update keeps what --overwrite would make anew: give one of the two.",
    ),
    (
        (*EMBED, "-o", "no/t.parquet"),
        2,
        "'no/t.parquet' cannot be written (No such file or directory). Name another place.",
    ),
    (("embed", "/", "-m", "model"), 2, "the table of '/' needs a name: give one with -o."),
    # nothing to work with
    (
        ("embed", "none"),
        1,
        (
            f"no images in '{{here}}/none': 1 file, none of which ends in {SUFFIXES}, .tar, "
            ".tar.gz, .tgz, .parquet."
        ),
    ),
    (
        ("embed", "broken", "-m", "model", "--quiet"),
        1,
        (
            f"none of 1 images could be read; 'a.png': {NO_IMAGE}. All are listed in "
            "'broken.errors.parquet'."
        ),
    ),
    # something in the way
    (
        (*EMBED, "-o", "there.parquet"),
        1,
        "'there.parquet' exists. Name another place, or give --overwrite.",
    ),
    (
        (*EMBED, "-o", "folder.parquet", "--overwrite"),
        1,
        "'folder.parquet' is a folder. Name another place.",
    ),
    # models
    (
        ("embed", "photos", "-m", "pauc_resnet5"),
        1,
        "unknown model 'pauc_resnet5'. Did you mean 'pauc_resnet50'? `pauc models` lists all.",
    ),
    (
        ("embed", "photos", "-m", "hf-hub:a"),
        1,
        "'hf-hub:a' names no repository. Write hf-hub:owner/name or hf-hub:owner/name@revision.",
    ),
    (
        ("embed", "photos", "-m", "nothing_to_load"),
        1,
        "'nothing_to_load' is no model folder: it has no config.json, no model.safetensors.",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), CASES, ids=[" ".join(case[0]) for case in CASES]
)
def test_one_line_says_what_is_wrong(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = left()
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (
        "",
        f"error: {message}\n".replace("{here}", str(Path.cwd())),
    )
    assert left() - before <= {"broken.errors.parquet"}


def test_a_device_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*EMBED[:-1], "toaster"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: --device toaster cannot be used here (")
    assert line.endswith("). Use `auto` or `cpu`.\n")
    assert line.count("\n") == 1


def test_what_stands_there_is_noticed_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pauc_hub.inference.model.load", lambda *_, **__: pytest.fail("loaded"))
    Path("photos.parquet").touch()
    assert run(EMBED) == 1
    assert (
        capsys.readouterr().err
        == "error: 'photos.parquet' exists. Name another place, or give --overwrite.\n"
    )


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = left()
    assert run([*EMBED, "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "error: 'photos.parquet' could not be written (No space left on device). "
        "Make room, and the same command goes on where it stopped.\n"
    )
    assert left() == before


UNEXPECTED: list[tuple[BaseException, int, str]] = [
    (RuntimeError("two\nlines"), 1, "RuntimeError: two lines (unexpected; --debug shows where)"),
    (torch.OutOfMemoryError("CUDA"), 1, "--batch-size 1 does not fit the GPU. Give a smaller one."),
    (MemoryError(), 1, "not enough memory. A smaller --batch-size needs less."),
    (
        KeyboardInterrupt(),
        130,
        "interrupted; 0 of 1 images are done, and the same command goes on from there.",
    ),
]


@pytest.mark.parametrize(
    ("error", "code", "message"), UNEXPECTED, ids=lambda value: type(value).__name__
)
def test_the_unexpected_is_one_line_too_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr("pauc_hub.inference.model.Model.encode", fail)
    before = left()
    assert run(EMBED) == code
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert left() == before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(
    place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["embed", "nowhere"]
    arguments.insert(place, "--debug")
    assert run(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last)")
    assert shown.endswith("\nerror: no such file or folder: 'nowhere'\n")


def test_an_interrupt_anywhere_else_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pauc_hub.embedding.embed.open_source", stop)
    assert run(EMBED) == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")


def test_a_system_error_names_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "photos/secret")

    monkeypatch.setattr("pauc_hub.embedding.embed.open_source", refuse)
    assert run(EMBED) == 1
    assert capsys.readouterr() == ("", "error: Permission denied: 'photos/secret'\n")


@pytest.mark.parametrize("place", ["say", "explain", "with_flags"])
def test_a_signal_does_not_cut_off_the_last_words(place: str) -> None:
    """As torchrun sends one to all processes once one has failed."""
    program = (
        "import os, signal\n"
        "from pauc_hub import cli\n"
        f"inner = cli.{place}\n"
        f"cli.{place} = lambda *given: (os.kill(os.getpid(), signal.SIGTERM), inner(*given))[1]\n"
        "cli.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "embed", "absent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, "error: no such file or folder: 'absent'\n")
