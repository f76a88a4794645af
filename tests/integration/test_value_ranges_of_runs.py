"""Training on images of more than 8 bits: one value range for the run, its resumption, and
embedding with its model.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pauc_hub
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.sources.datasets import open_images
from pauc_hub.training import loop
from pauc_hub.training.config import Config
from pauc_hub.training.run import run_folder

CONFIG = Config(
    architecture="test_resnet",
    size=32,
    epochs=1,
    objective="infonce",
    batch_size=64,
    norm_group=32,
    queue=64,
    precision="fp32",
)


def write(folder: Path, count: int, low: float, high: float) -> Path:
    folder.mkdir()
    for i in range(count):
        coarse = np.random.default_rng(i).random((4, 4)).astype(np.float32)
        image = np.asarray(Image.fromarray(coarse).resize((40, 36), Image.Resampling.BILINEAR))
        Image.fromarray(low + (high - low) * image).save(folder / f"{i:03}.tif")
    return folder


def test_a_run_reads_its_images_by_the_range_of_all(tmp_path: Path) -> None:
    source = open_by_index(write(tmp_path / "kelvin", 6, 270, 310), quiet=True)
    assert isinstance(source.reading.value_range, dict)
    low, high = source.reading.value_range["float32"]
    assert 270 < low < 275
    assert 305 < high < 310
    picture = source.read(0)
    assert isinstance(picture, Image.Image)
    assert np.asarray(picture).std() > 30  # and not one grey
    assert source.unreadable == {}


def test_a_range_and_bands_that_are_given_are_not_measured(tmp_path: Path) -> None:
    images, given = write(tmp_path / "kelvin", 2, 270, 310), Reading((200.0, 400.0), (1,))
    for place in (images, sorted(images.iterdir())):
        source = open_images(place, given, quiet=True)
        assert source.reading == given
        picture = source.read(0)
        assert picture is not None
        assert 88 < np.asarray(picture).min() < np.asarray(picture).max() < 141


def test_a_run_goes_on_with_the_range_that_it_began_with(tmp_path: Path) -> None:
    began = Reading({"float32": (270.0, 310.0)})
    assert run_folder.keep_reading(tmp_path, began, goes_on=False) == began
    assert (
        run_folder.keep_reading(tmp_path, Reading({"float32": (0.0, 5.0)}), goes_on=True) == began
    )
    (tmp_path / run_folder.READING).unlink()
    assert run_folder.keep_reading(tmp_path, PLAIN, goes_on=False) == PLAIN
    assert not (tmp_path / run_folder.READING).exists()  # photographs leave nothing
    assert run_folder.keep_reading(tmp_path, began, goes_on=True) == PLAIN


def test_the_model_brings_its_range_to_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write(tmp_path / "kelvin", 128, 270, 310)
    model = loop.train(images, tmp_path / "run", CONFIG, quiet=True, device="cpu")
    learnt: Any = open_folder(model).facts["data"]["value_range"]
    assert learnt == json.loads((tmp_path / "run" / run_folder.READING).read_text())["value_range"]
    others = write(tmp_path / "colder", 4, 200, 290)
    summary = pauc_hub.embed(others, model, output=tmp_path / "t.parquet", device="cpu", quiet=True)
    assert pauc_hub.read_table(summary.output).provenance.preprocessing["value_range"] == learnt


def test_so_does_one_whose_range_was_given(tmp_path: Path) -> None:
    images = write(tmp_path / "kelvin", 64, 270, 310)
    source = open_by_index(images, Reading((250.0, 320.0), (1,)), quiet=True)
    model = loop.train(source, tmp_path / "run", CONFIG, quiet=True, device="cpu")
    told = {"value_range": [250.0, 320.0], "bands": [1]}
    assert open_folder(model).facts["data"].items() >= told.items()
    summary = pauc_hub.embed(images, model, output=tmp_path / "t.parquet", device="cpu", quiet=True)
    assert pauc_hub.read_table(summary.output).provenance.preprocessing.items() >= told.items()
