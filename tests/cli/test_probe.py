"""`pauc probe` and `pauc predict`: what is printed, and where."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

ABOUT = Provenance("m", "0" * 64, "backbone", {}, "fp32", "/photos", "0")


def write(path: Path, classes: int, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    vectors = (
        2 * np.eye(classes, 8 + classes)[labels] + 0.6 * rng.normal(size=(rows, 8 + classes))
    ).astype(np.float32)
    with open_output(path, vectors.shape[1], rows, ABOUT) as table:
        names = [f"class {label}/{seed}-{i}.jpg" for i, label in enumerate(labels)]
        table.write(names, vectors, np.ones((rows, 2), np.int32))
    return path


def test_what_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.parquet", 3, 60, 0)
    test = write(tmp_path / "test.parquet", 3, 30, 1)
    output = tmp_path / "p.probe.safetensors"
    assert run(["probe", str(train), str(test), "-o", str(output)]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert (
        f"linear probe of {train} (60 images, 3 classes), tested on {test} (30 images)"
        in printed.out
    )
    assert "  top-1   " in printed.out
    assert (
        "95 %, 1000 bootstrap resamples of the 30 test images; the training images are fixed"
        in printed.out
    )
    assert "true in rows, predicted in columns" in printed.out
    assert f"{output}: written" in printed.out

    assert run(["predict", str(test), "--probe", str(output)]) == 0
    printed = capfd.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert [row["path"] for row in rows][:2] == ["class 0/1-0.jpg", "class 1/1-1.jpg"]
    assert {row["class"] for row in rows} == {"class 0", "class 1", "class 2"}
    assert "30 images: " in printed.err  # so that what is piped elsewhere is CSV alone


def test_json_has_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.parquet", 14, 140, 0)
    assert run(["probe", str(train), "--json", "-o", str(tmp_path / "p.safetensors")]) == 0
    report = json.loads(capfd.readouterr().out)
    assert set(report["scores"]) >= {
        "top1",
        "top5",
        "mean_per_class",
        "map",
        "per_class",
        "confusion",
    }
    assert (
        report["scores"]["top1"]["low"]
        <= report["scores"]["top1"]["value"]
        <= report["scores"]["top1"]["high"]
    )
    assert report["classes"] == [f"class {c}" for c in range(14)]  # 2 before 10
    assert run(["predict", str(train), "--probe", str(tmp_path / "p.safetensors"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["images"] == 140
    assert found["predictions"][0].keys() >= {
        "path",
        "class",
        "probability",
        "second_class",
        "second_probability",
    }


def test_many_classes_are_shown_by_their_mistakes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.parquet", 33, 132, 0)
    test = write(tmp_path / "test.parquet", 33, 132, 1)
    assert run(["probe", str(train), str(test), "--protocol", "knn"]) == 0
    printed = capfd.readouterr().out
    assert "worst 30 classes" in printed
    assert "commonest mistakes" in printed
    assert " taken for " in printed
    assert "true in rows" not in printed


def test_draws_are_printed_with_what_they_cover(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.parquet", 3, 60, 0)
    assert run(["probe", str(train), "--protocol", "lowshot"]) == 0
    printed = capfd.readouterr().out
    assert "tested on images that were not drawn" in printed
    assert "  16 a class  " in printed
    assert "Student's t over 5 draws of training images" in printed


def test_copies_are_told_first_with_scores_without_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.parquet", 3, 60, 0)
    assert run(["probe", str(train), str(train), "--protocol", "knn"]) == 0
    printed = capfd.readouterr().out
    assert (
        "60 of 60 test images have a copy among the training images, such as class 0/0-0.jpg "
        "(class 0/0-0.jpg)"
    ) in printed


def test_refusals_speak_flags(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.parquet", 3, 60, 0)
    assert run(["probe", str(train), "--protocol", "semi"]) == 2
    assert capfd.readouterr().err == "error: --protocol semi needs test images: give TEST.\n"
    assert run(["probe", str(train), "--group", "video"]) == 2
    assert (
        "Give --labels FILE.csv with the columns path, label and this one."
        in capfd.readouterr().err
    )


def test_pictures_are_drawn(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", 3, 60, 0)
    assert run(["probe", str(train), str(train), "--quiet", "--plot", str(tmp_path / "p.svg")]) == 0
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert (
        run(
            [
                "probe",
                str(train),
                "--protocol",
                "lowshot",
                "--quiet",
                "--plot",
                str(tmp_path / "p.png"),
            ]
        )
        == 0
    )
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert run(["probe", str(train), "--quiet", "--plot", str(tmp_path / "p.png")]) == 1


def test_images_are_embedded_first_and_unreadable_ones_told(
    tmp_path: Path, model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for i in range(12):
        folder = photos / ("train" if i < 8 else "val") / ("dark" if i % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        grey = 10 + i if i % 2 else 230 + i
        Image.new("RGB", (20, 20), (grey, grey, grey)).save(folder / f"{i}.png")
    (photos / "train" / "dark" / "broken.png").write_bytes(b"no image")
    output = tmp_path / "p.safetensors"
    options = ["-m", str(model_folder), "--device", "cpu"]
    assert run(["probe", str(photos), "-o", str(output), "--quiet", *options]) == 3
    assert (tmp_path / "photos.parquet").exists()
    assert capfd.readouterr().out == ""
    new = tmp_path / "new"
    new.mkdir()
    Image.new("RGB", (20, 20), (15, 15, 15)).save(new / "a.png")
    assert run(["predict", str(new), "--probe", str(output), "--json", *options]) == 0
    [row] = json.loads(capfd.readouterr().out)["predictions"]
    assert (row["path"], row["class"], row["second_class"]) == ("a.png", "dark", "light")
