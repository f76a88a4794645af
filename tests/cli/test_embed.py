"""`pauc embed` as a whole: exit codes, what is printed where, and the files that are left."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.embedding.workspace import Workspace
from pauc_hub.images.formats import HEIF, IMAGE_SUFFIXES
from pauc_hub.tables.stored import read_table


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`photos/` with four images, in the working directory."""
    monkeypatch.chdir(tmp_path)
    root = Path("photos")
    (root / "trip to Ä").mkdir(parents=True)
    for name, colour in [
        ("a.png", "red"),
        ("b.JPG", "green"),
        ("trip to Ä/c.webp", "blue"),
        ("d.gif", "white"),
    ]:
        Image.new("RGB", (80, 60), colour).save(root / name)
    return root


@pytest.fixture
def options(model_folder: Path) -> list[str]:
    return ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32"]


def left() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_writes_the_table_beside_the_folder_and_says_so(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", "photos/", *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("photos.parquet: 4 embeddings of 96 numbers by tiny in ")
    assert printed.out.endswith(" images/s at 64 px)\n")
    assert printed.err == ""
    table = read_table(Path("photos.parquet"))
    assert table.paths == ["a.png", "b.JPG", "d.gif", "trip to Ä/c.webp"]
    assert table.embeddings.shape == (4, 96)
    assert (table.sizes == [80, 60]).all()
    assert table.provenance.root == str(photos.absolute())
    assert left() == ["photos", "photos.parquet"]


def test_unreadable_images_are_listed_counted_and_told_by_the_exit_code(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty.jpg").touch()
    (photos / "note.png").write_text("no image")
    (photos / "broken.png").symlink_to("gone.png")
    os.mkfifo(photos / "pipe.jpg")
    assert run(["embed", "photos", *options]) == 3
    printed = capsys.readouterr()
    assert (
        printed.err == "warning: 4 of 8 images could not be read; listed in photos.errors.parquet\n"
    )
    assert printed.out.startswith("photos.parquet: 4 embeddings of 96 numbers")
    errors = pq.read_table("photos.errors.parquet").to_pylist()
    assert [(row["path"], row["kind"]) for row in errors] == [
        ("broken.png", "missing"),
        ("empty.jpg", "empty"),
        ("note.png", "not_an_image"),
        ("pipe.jpg", "not_a_file"),
    ]


def test_json_is_one_object_and_says_all_that_the_sentence_does(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty.jpg").touch()
    assert (
        run(["embed", "photos", "-o", "t.parquet", "--space", "projection", "--json", *options])
        == 3
    )
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("seconds") > 0
    assert answer == {
        "output": "t.parquet",
        "errors": "t.errors.parquet",
        "images": 4,
        "unreadable": 1,
        "resumed": 0,
        "width": 16,
        "few_levels": 0,
        "more_pages": 0,
        "passed_over": {},
        "model": "tiny",
        "space": "projection",
        "precision": "fp32",
        "device": "cpu",
        "image_size": 64,
        "median_side": 60,
    }
    assert np.allclose(
        np.linalg.norm(read_table(Path("t.parquet")).embeddings, axis=1), 1, atol=1e-5
    )


def test_quiet_prints_nothing_even_where_images_are_unreadable(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty.jpg").touch()
    assert run(["embed", "photos", "--quiet", *options]) == 3
    assert capsys.readouterr() == ("", "")


def test_one_image_is_enough(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", "photos/a.png", *options]) == 0
    assert capsys.readouterr().out.startswith(
        "photos/a.parquet: 1 embedding of 96 numbers by tiny in "
    )
    assert read_table(Path("photos/a.parquet")).paths == ["a.png"]


@pytest.mark.parametrize(
    ("given", "table"),
    [(".", "../here.parquet"), ("sub/..", "../here.parquet"), ("v1.2", "v1.2.parquet")],
)
def test_folders_of_any_spelling_name_their_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], given: str, table: str
) -> None:
    for folder in ("here/sub", "here/v1.2"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "a.png")
    monkeypatch.chdir(tmp_path / "here")
    assert run(["embed", given, "--quiet", *options]) == 0
    assert Path(table).exists()


def test_given_again_it_says_that_the_table_is_complete(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", "photos", "--quiet", *options]) == 0
    complete = "photos.parquet: complete already, 4 embeddings of 96 numbers by tiny; "
    assert run(["embed", "photos", *options]) == 0
    assert (
        capsys.readouterr().out
        == f"{complete}--update embeds what changed since, --overwrite everything\n"
    )
    assert run(["embed", "photos", "--update", *options]) == 0
    assert capsys.readouterr().out == f"{complete}nothing is new or changed\n"


def test_an_update_embeds_what_is_new(
    photos: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", "photos", "--quiet", *options]) == 0
    Image.new("RGB", (9, 9)).save(photos / "e.png")
    assert run(["embed", "photos", *options]) == 1
    assert capsys.readouterr().err == (
        "error: 'photos.parquet' exists, with another number of images (4, now 5), list of images. "
        "Name another place, or give --overwrite to embed all, or --update to embed what changed.\n"
    )
    assert run(["embed", "photos", "--update", *options]) == 0
    assert capsys.readouterr().out.endswith(" images/s at 64 px; 4 were done before)\n")
    assert read_table(Path("photos.parquet")).paths == [
        "a.png",
        "b.JPG",
        "d.gif",
        "e.png",
        "trip to Ä/c.webp",
    ]


def test_scaled_decoding_is_noted_in_the_table_and_does_not_mix(
    photos: Path, options: list[str]
) -> None:
    Image.new("RGB", (900, 700), "red").save(photos / "large.jpg")
    assert run(["embed", "photos", "--decoding", "scaled", "--quiet", *options]) == 0
    table = read_table(Path("photos.parquet"))
    assert table.provenance.preprocessing["decoding"] == "scaled"
    assert table.sizes[table.paths.index("large.jpg")].tolist() == [900, 700]
    assert run(["embed", "photos", "--quiet", *options]) == 1


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_other_files_hold_the_numbers_that_were_asked_for(
    photos: Path, options: list[str], suffix: str
) -> None:
    form = ["--dtype", "float16", "--pca", "3", "--quiet"]
    assert run(["embed", "photos", "-o", f"v{suffix}", *form, *options]) == 0
    assert {*left()} == {"photos", "v.index.parquet", "v.pca.safetensors", f"v{suffix}"}
    table = read_table(Path(f"v{suffix}"))
    assert table.embeddings.shape == (4, 3)
    assert table.embeddings.dtype == "float16"
    assert table.paths == ["a.png", "b.JPG", "d.gif", "trip to Ä/c.webp"]


def test_overwriting_replaces_both_tables(photos: Path, options: list[str]) -> None:
    Path("photos.parquet").write_text("old")
    Path("photos.errors.parquet").write_text("old")
    assert run(["embed", "photos", "--overwrite", "--quiet", *options]) == 0
    assert read_table(Path("photos.parquet")).embeddings.shape == (4, 96)
    assert left() == ["photos", "photos.parquet"]


def test_names_that_are_not_utf8_are_embedded(photos: Path, options: list[str]) -> None:
    (photos / "a.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    assert run(["embed", "photos", "--quiet", *options]) == 0
    assert "caf\\xe9.png" in read_table(Path("photos.parquet")).paths


def test_batches_and_threads_do_not_change_the_table(photos: Path, options: list[str]) -> None:
    assert run(["embed", "photos", "-o", "a.parquet", "--quiet", *options]) == 0
    assert (
        run(
            [
                "embed",
                "photos",
                "-o",
                "b.parquet",
                "--batch-size",
                "1",
                "--workers",
                "5",
                "--quiet",
                *options,
            ]
        )
        == 0
    )
    first, second = read_table(Path("a.parquet")), read_table(Path("b.parquet"))
    assert first.paths == second.paths
    assert np.allclose(first.embeddings, second.embeddings, atol=1e-5)


# ---------------------------------------------------------------- as a process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_goes_on_with_the_same_command(
    photos: Path,
    options: list[str],
    number: signal.Signals,
    program: Callable[..., int],
    signalled: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i in range(20):
        (photos / f"{i}.png").symlink_to("a.png")
    command = ["embed", "photos", "--batch-size", "1", *options]
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "add", signalled(number, 9, Workspace.add))
        code = program(*command)
    out, err = capsys.readouterr()
    said = "error: interrupted; 8 of 24 images are done, and the same command goes on from there.\n"
    assert (code, out, err) == (130, "", said)
    assert left() == [".photos.parquet.unfinished", "photos"]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("photos.parquet: 24 embeddings of 96 numbers by tiny in ")
    assert printed.endswith(" images/s at 64 px; 8 were done before)\n")
    assert left() == ["photos", "photos.parquet"]


def test_starts_without_what_takes_seconds_to_import(photos: Path) -> None:
    program = (
        "import sys; from pauc_hub.cli import run; "
        "code = run(['embed', 'photos/b.JPG', '-m', 'pauc_resnet18', '--device', 'cpu', "
        "'--quiet']); "
        "print(code, *{'timm', 'torchvision', 'torch._dynamo', 'torch._inductor', 'sympy'} & "
        "sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert read_table(photos / "b.parquet").embeddings.shape == (1, 512)


def test_says_nothing_of_what_pillow_warns_about(
    photos: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("1", (11_000, 9_000)).save(photos / "large.png")  # above 89 megapixels
    Image.new("RGB", (9, 9)).save(photos / "exif.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert run(["embed", "photos", *options]) == 0
    assert warned == []
    assert capfd.readouterr().err == ""


def test_names_with_control_characters_are_shown_escaped_and_stay_exact_in_json(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "a\nb\x1b[31m"
    Path(odd).mkdir()
    for i, name in enumerate((f"{odd}.png", "c.png")):
        Image.new("RGB", (70, 70), (90 * i, 0, 0)).save(Path(odd) / name)
    (Path(odd) / "broken.png").write_text("text")
    shown = "a\\nb\\x1b[31m"
    assert run(["embed", odd, *options]) == 3
    printed = capsys.readouterr()
    assert (
        printed.err
        == f"warning: 1 of 3 images could not be read; listed in {shown}.errors.parquet\n"
    )
    assert printed.out.startswith(f"{shown}.parquet: 2 embeddings")
    table = f"{odd}.parquet"
    assert read_table(Path(table)).paths == [f"{odd}.png", "c.png"]
    assert run(["search", "c.png", "--in", table, "-k", "1"]) == 0
    assert f"  {shown}.png\n" in capsys.readouterr().out
    assert run(["search", "c.png", "--in", table, "-k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"][0]["neighbors"][0]["path"] == f"{odd}.png"
    assert run(["search", "\x1b.png", "--in", table, "-k", "1"]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: '\\x1b.png' is neither a file nor a path in '{shown}.parquet'"
    )


def test_files_that_are_passed_over_are_counted_and_named(
    photos: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pauc_hub.sources.kinds.IMAGE_SUFFIXES", IMAGE_SUFFIXES - HEIF)
    for name in ("1.heic", "2.HEIC", "3.mov", "LICENSE"):
        (photos / name).touch()
    assert run(["embed", "photos", "--json", *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "warning: 4 files passed over: 2 .heic (pip install 'pauc-hub[heif]'), 1 without a "
        "suffix, 1 .mov\n"
    )
    assert json.loads(printed.out)["passed_over"] == {".heic": 2, ".mov": 1, "": 1}
