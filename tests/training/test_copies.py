"""Runs on images of which many are copies: what they end with."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.images.jpeg import Picture
from pauc_hub.images.reading import Reading
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training import copies, finish, loop
from pauc_hub.training.config import Config
from pauc_hub.training.copies import refuse_copies

CONFIG = Config(
    architecture="test_resnet",
    size=32,
    epochs=2,
    batch_size=64,
    norm_group=32,
    queue=64,
    clusters=(2, 4, 8),
    dim=16,
    precision="fp32",
)


def write_images(folder: Path, seeds: Sequence[int]) -> Path:
    """A picture for each seed; copies where seeds repeat, and flat where they are negative."""
    folder.mkdir()
    for i, seed in enumerate(seeds):
        side = 1 if seed < 0 else 4
        coarse = np.random.default_rng(abs(seed)).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """80 images, 8 of them distinct."""
    return write_images(tmp_path / "few", [i % 8 for i in range(80)])


@pytest.mark.parametrize("looked_through", [80, 79])
def test_fewer_distinct_images_than_prototypes_are_counted_with_the_way_out(
    looked_through: int, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a small set before the run begins, else at the first E-step."""
    monkeypatch.setattr(copies, "LOOKED_THROUGH", looked_through)
    early = looked_through == 80
    with pytest.raises(UsageError if early else TrainingFailed) as failed:
        loop.train(few, tmp_path / "run", CONFIG, workers=1, quiet=True)
    assert (tmp_path / "run").exists() == (not early)
    assert str(failed.value) == (
        "only 8 of 80 images are distinct, too few for clusters=8. Remove the copies, give "
        "clusters of at most 7, "
        "or train with objective='infonce', which needs no clusters."
    )


def test_a_set_without_copies_costs_a_look_at_one_image_more_than_there_are_prototypes(
    tmp_path: Path,
) -> None:
    source = open_by_index(write_images(tmp_path / "images", range(40)), quiet=True)
    read: list[int] = []

    def noted(index: int, reading: Reading) -> Picture:
        read.append(index)
        return source.picture(index, reading)

    counted = dataclasses.replace(source, picture=noted)
    refuse_copies(counted, CONFIG)
    assert read == list(range(9))
    # and that too few can be read is for the E-step to say
    for i in range(33):
        (tmp_path / "images" / f"{i:03}.png").write_text("broken")
    refuse_copies(source, CONFIG)


def test_a_run_that_needs_no_prototypes_ends_with_its_model(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was stopped before the model was written."""
    run = tmp_path / "run"

    def broken(*_: object) -> None:
        raise TrainingFailed("no room")

    config = dataclasses.replace(CONFIG, objective="infonce", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(finish, "publish", broken)
        with pytest.raises(TrainingFailed, match="no room"):
            loop.train(few, run, config, workers=1, quiet=True)
    capsys.readouterr()
    folder = open_folder(loop.train(few, run, workers=1, resume=True))
    folder.verify()
    assert folder.read_prototypes() == ()
    assert folder.read_projector() is not None
    assert folder.pauc["clusters"] == []
    assert (
        "warning: the model has no prototypes: only 8 of 80 images are distinct, too few for "
        "clusters=8.\n"
    ) in capsys.readouterr().err


def test_where_there_can_be_prototypes_infonce_has_them(few: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, objective="infonce", epochs=1, clusters=(2, 4))
    folder = open_folder(loop.train(few, tmp_path / "run", config, workers=1, quiet=True))
    assert [len(each.sizes) for each in folder.read_prototypes()] == [2, 4]
    assert folder.pauc["clusters"] == [2, 4]


def test_copies_among_others_are_no_nan(tmp_path: Path) -> None:
    """Forty distinct images, and flat ones many times each: clusters of copies alone have no
    radius.
    """
    images = write_images(tmp_path / "images", [*range(1, 41), *(-1 - i % 4 for i in range(60))])
    config = dataclasses.replace(CONFIG, objective="protonce", clusters=(4, 10))
    model = loop.train(images, tmp_path / "run", config, workers=1, quiet=True)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(line["loss"] is not None for line in lines)
    for prototypes in open_folder(model).read_prototypes():
        assert (
            0 < prototypes.concentrations.min().item() <= prototypes.concentrations.max().item() < 1
        )
        assert prototypes.radius.min().item() < 1e-5
