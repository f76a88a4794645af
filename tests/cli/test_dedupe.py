"""`pauc dedupe` as a whole: planted copies, what is kept, leakage, and bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.cli import run


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Twelve pictures and copies: of the same bytes, of the same pixels, smaller, re-encoded;
    embedded once.
    """
    root = tmp_path_factory.mktemp("shop")
    photos = root / "photos"
    photos.mkdir()
    for seed in range(12):
        picture(seed).save(photos / f"{seed:02}.png")
    shutil.copy(photos / "00.png", photos / "same_bytes.png")
    picture(1).save(photos / "same_pixels.png", compress_level=0)
    picture(2).resize((64, 64), Image.Resampling.BICUBIC).save(photos / "smaller.png")
    picture(3).save(photos / "re_encoded.jpg", quality=85)
    shutil.copytree(model_folder, root / "model")
    arguments = [
        "embed",
        str(photos),
        "-m",
        str(root / "model"),
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--quiet",
    ]
    assert run(arguments) == 0
    return root


@pytest.fixture
def here(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shop's table; a copy of its photographs, so that a test may move them, is not needed but
    by one.
    """
    monkeypatch.chdir(tmp_path)
    return shop


def dedupe(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert run(["dedupe", *arguments, "--json", "--quiet", "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)


def test_planted_copies_are_found_each_with_its_kind(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dedupe(
        str(here / "photos.parquet"), "-m", str(here / "model"), "-o", "d.parquet", capsys=capsys
    )
    told = {each["path"]: (each["kept"], each["kind"]) for each in found["duplicates"]}
    assert told["same_bytes.png"] == ("00.png", "same bytes")
    # the uncompressed file has more bytes, and is kept
    assert told["01.png"] == ("same_pixels.png", "same pixels")
    assert told["smaller.png"] == ("02.png", "near")
    assert {each["path"]: each["reason"] for each in found["duplicates"]}["smaller.png"] == "larger"
    assert ("re_encoded.jpg" in told) or ("03.png" in told)
    assert found["threshold"]["recall"] >= 0.8
    assert found["threshold"]["copies"] > 0
    table = pq.read_table("d.parquet")
    assert table["path"].to_pylist() == [each["path"] for each in found["duplicates"]]


def test_without_the_files_equal_sums_are_the_same_bytes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(here / "photos.parquet")
    about = json.loads(table.schema.metadata[b"pauc"]) | {"root": "/gone"}
    gone = table.replace_schema_metadata(table.schema.metadata | {b"pauc": json.dumps(about)})
    pq.write_table(gone, "gone.parquet")
    pq.write_table(gone.drop_columns(["sha256"]), "older.parquet")
    kinds = {}
    for name in ("gone", "older"):
        found = dedupe(f"{name}.parquet", "--threshold", "0.9999", capsys=capsys)
        kinds[name] = {each["path"]: each["kind"] for each in found["duplicates"]}
    assert kinds["gone"]["same_bytes.png"] == "same bytes"
    # other bytes, so their pixels would have to be compared
    assert {*kinds["gone"].values()} == {"same bytes", "near"}
    assert {*kinds["older"].values()} == {"near"}
    leaked = dedupe(
        "gone.parquet", "gone.parquet", "--threshold", "0.9999", "-o", "l.csv", capsys=capsys
    )
    assert {each["path"]: each["kind"] for each in leaked["duplicates"]}["05.png"] == "same bytes"


def test_every_copy_reaches_the_threshold(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = dedupe(
        str(here / "photos.parquet"), "--threshold", "0.999", "-o", "d.csv", capsys=capsys
    )
    assert found["threshold"]["value"] == 0.999
    assert all(each["similarity"] >= 0.999 for each in found["duplicates"])
    assert Path("d.csv").read_text().splitlines()[0] == "group,path,kept,kind,similarity,reason"


def test_copies_are_moved_and_kept_ones_stay(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(here / "photos", "photos")
    assert run(["embed", "photos", "-m", str(here / "model"), "--device", "cpu", "--quiet"]) == 0
    capsys.readouterr()
    found = dedupe("photos.parquet", "--threshold", "0.9999", "--move", "copies", capsys=capsys)
    assert found["moved"] == len(found["duplicates"]) > 0
    for each in found["duplicates"]:
        assert Path("copies", each["path"]).is_file()
        assert not Path("photos", each["path"]).exists()
        assert Path("photos", each["kept"]).is_file()


def test_leaked_images_of_another_set_are_found(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("test").mkdir()
    shutil.copy(here / "photos" / "05.png", "test/leaked.png")
    picture(99).save("test/fresh.png")
    arguments = [str(here / "photos.parquet"), "test", "-m", str(here / "model")]
    found = dedupe(*arguments, "--threshold", "0.999", "-o", "d.csv", capsys=capsys)
    assert [(each["path"], each["kept"], each["kind"]) for each in found["duplicates"]] == [
        ("leaked.png", "05.png", "same bytes")
    ]
    assert found["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "1.5"], "--threshold 1.5 is not above 0 and at most 1."),
        (["--move", "a", "--link", "b"], "move and link exclude each other: give one of the two."),
        (["-o", "d.txt"], "the output 'd.txt' must end in .parquet or .csv."),
    ],
)
def test_one_line_says_what_is_wrong(
    here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dedupe", str(here / "photos.parquet"), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
