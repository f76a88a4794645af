"""`pauc embed --range`, `--bands` and `--like`, and what is said of images that they would suit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.tables.stored import read_table

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def options(model_folder: Path) -> list[str]:
    return ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(autouse=True)
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`scans/` with three images of 12 bits, `warm/` with two of kelvins."""
    monkeypatch.chdir(tmp_path)
    for name in ("scans", "warm"):
        Path(name).mkdir()
    for i in range(3):
        values = np.random.default_rng(i).integers(0, 4096, (5, 5)).astype(np.uint16)
        image = np.asarray(
            Image.fromarray(values.astype(np.float32)).resize((70, 70), Image.Resampling.BICUBIC)
        )
        Image.fromarray(image.clip(0, 4095).astype(np.uint16)).save(f"scans/{i}.png")
        Image.fromarray(image / 100 + 270).save(f"warm/{i}.tif")
    return tmp_path


def preprocessing(table: str) -> dict[str, Any]:
    return read_table(Path(table)).provenance.preprocessing


def test_the_range_can_be_given_for_all_or_taken_of_each(options: list[str]) -> None:
    assert run(["embed", "scans", "--range", "0,4095", *options]) == 0
    assert preprocessing("scans.parquet")["value_range"] == [0, 4095]
    assert run(["embed", "scans", "--range", "image", "-o", "each.parquet", *options]) == 0
    assert preprocessing("each.parquet")["value_range"] == "image"


def test_images_left_with_few_levels_are_told(options: list[str], capsys: Captured) -> None:
    assert run(["embed", "scans", "--range", "0,65535", "--json", *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "warning: 3 of 3 images are left with fewer than 32 levels of grey; "
        "--range LOW,HIGH says which numbers are black and white\n"
    )
    assert json.loads(printed.out)["few_levels"] == 3


def test_bands_can_be_chosen(options: list[str], write_tiff: Any, capsys: Captured) -> None:
    Path("bands").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 70, 6), dtype=np.uint8)
    write_tiff(Path("bands/six.tif"), pixels)
    Image.fromarray(pixels[..., [3, 2, 1]]).save("bands/rgb.png")
    assert run(["embed", "bands", *options]) == 3
    (row,) = pq.read_table("bands.errors.parquet").to_pylist()
    assert (row["kind"], row["message"][:8]) == ("unsupported", "6 bands:")
    assert run(["embed", "bands", "--bands", "4,3,2", "--overwrite", *options]) == 0
    first, second = read_table(Path("bands.parquet")).embeddings
    assert (first == second).all()
    assert preprocessing("bands.parquet")["bands"] == [4, 3, 2]


def test_images_are_embedded_like_those_of_a_table(
    options: list[str], capsys: Captured, model_folder: Path
) -> None:
    assert run(["embed", "warm", "--space", "projection", *options]) == 0
    Path("one").mkdir()
    Path("one/1.tif").write_bytes(Path("warm/1.tif").read_bytes())
    assert run(["embed", "one", "--like", "warm.parquet", *options]) == 0
    then, now = read_table(Path("warm.parquet")), read_table(Path("one.parquet"))
    assert now.provenance.origin == then.provenance.origin
    assert np.allclose(now.embeddings[0], then.embeddings[1], atol=1e-6)
    assert (
        run(["search", "one/1.tif", "--in", "warm.parquet", "-k", "1", "-m", str(model_folder)])
        == 0
    )
    assert "1.0000  1.tif" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--range", "4095"], "--range '4095' is not LOW,HIGH, such as 0,4095, nor `image`."),
        (["--range", "5,1"], "--range '5,1' is not LOW,HIGH, such as 0,4095, nor `image`."),
        (
            ["--bands", "1,2"],
            "--bands '1,2' is not one or three numbers of bands from 1, such as 3,2,1.",
        ),
    ],
)
def test_what_is_written_wrongly_is_told_before_anything_starts(
    words: list[str], message: str, capsys: Captured
) -> None:
    assert run(["embed", "scans", *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not Path("scans.parquet").exists()


def test_what_contradicts_the_table_is_refused(options: list[str], capsys: Captured) -> None:
    assert run(["embed", "warm", "--quiet", *options]) == 0
    for words in ("--range 0,5", "--bands 1,2,3", "--space projection", "--decoding scaled"):
        assert run(["embed", "scans", "--like", "warm.parquet", *words.split(), *options]) == 2
        assert (
            capsys.readouterr().err
            == f"error: {words} is not what 'warm.parquet' was made with: leave it out.\n"
        )
