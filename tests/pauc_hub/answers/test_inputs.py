"""What a verb is given: a table is opened, images are embedded once, and what is of no use is
refused.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pauc_hub
from pauc_hub.answers.inputs import open_input, rows_of
from pauc_hub.errors import OriginMismatch, OutputExists, TableError, UnknownModel, UsageError
from pauc_hub.tables.stored import read_table

WriteTable = Callable[..., Path]
Picture = Callable[[int, int], Image.Image]
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def photos(tmp_path: Path, picture: Picture) -> Path:
    """Three images in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for side in (20, 30, 40):
        picture(side, side).save(folder / f"{side}.png")
    return folder


def test_a_table_is_opened_and_read_in_stretches(tmp_path: Path, write_table: WriteTable) -> None:
    given = open_input(write_table(tmp_path / "t.parquet", VECTORS))
    parts = list(rows_of(given, 3))
    assert [(part.start, part.paths) for part in parts] == [
        (0, ["00000.png", "00001.png", "00002.png"]),
        (3, ["00003.png"]),
    ]
    np.testing.assert_array_equal(np.concatenate([part.vectors for part in parts]), VECTORS)
    assert (given.rows, given.width, given.unreadable) == (4, 3, 0)


def test_a_table_of_another_origin_is_refused(tmp_path: Path, write_table: WriteTable) -> None:
    path = write_table(tmp_path / "t.parquet", VECTORS)
    origin = open_input(path).origin
    open_input(path, like=replace(origin, root="/elsewhere"))
    with pytest.raises(OriginMismatch, match="differ in space"):
        open_input(path, like=replace(origin, space="projection"))


def test_tables_of_no_use_are_refused(tmp_path: Path, write_table: WriteTable) -> None:
    with pytest.raises(TableError, match="holds no images"):
        open_input(write_table(tmp_path / "empty.parquet", VECTORS[:0]))
    with pytest.raises(TableError, match="holds the path 'b' twice"):
        open_input(write_table(tmp_path / "twice.parquet", VECTORS, [*"abcb"]))
    spoilt = VECTORS.copy()
    spoilt[2, 1] = np.nan
    with pytest.raises(TableError, match=r"NaN or infinity in the embedding of .00002\.png."):
        list(rows_of(open_input(write_table(tmp_path / "nan.parquet", spoilt))))


def test_images_are_embedded_once(
    photos: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = open_input(photos, model=model_folder, device="cpu")
    assert first.path == photos.with_suffix(".parquet")
    assert first.rows == 3
    assert f"embedding {photos} by {model_folder} into {first.path}" in capsys.readouterr().err
    written = first.path.stat().st_mtime_ns
    again = open_input(photos, model=model_folder, device="cpu", quiet=True)
    assert (again.path, again.path.stat().st_mtime_ns) == (first.path, written)
    assert capsys.readouterr().err == ""


def test_images_that_came_since_are_added(
    photos: Path, model_folder: Path, picture: Picture
) -> None:
    open_input(photos, model=model_folder, device="cpu", quiet=True)
    picture(50, 50).save(photos / "50.png")
    (photos / "broken.png").write_bytes(b"no image")
    given = open_input(photos, model=model_folder, device="cpu", quiet=True)
    assert read_table(given.path).paths == ["20.png", "30.png", "40.png", "50.png"]
    assert given.unreadable == 1


def test_the_table_of_another_space_is_left_alone(photos: Path, model_folder: Path) -> None:
    first = open_input(photos, model=model_folder, device="cpu", quiet=True)
    second = open_input(photos, model=model_folder, space="projection", device="cpu", quiet=True)
    assert second.path == photos.with_name(f"photos.{model_folder.name}-projection.parquet")
    assert (first.origin.space, second.origin.space) == ("backbone", "projection")
    assert read_table(first.path).provenance.space == "backbone"
    with pytest.raises(OutputExists, match="table of another model, space or value range"):
        open_input(
            photos,
            model=model_folder,
            space="projection",
            table=first.path,
            device="cpu",
            quiet=True,
        )


def test_what_has_no_place_beside_it_needs_one(photos: Path) -> None:
    with pytest.raises(
        UsageError, match=r"needs a place: `pauc embed .* -o NAME\.parquet`, and give that"
    ):
        open_input(photos / "*.png", quiet=True)
    with pytest.raises(UsageError, match="no such file or folder"):
        open_input(photos / "none", quiet=True)


def test_a_model_that_is_not_here_by_name_must_be_named(photos: Path, model_folder: Path) -> None:
    """The name of a run's model leads nowhere."""
    origin = open_input(photos, model=model_folder, device="cpu", quiet=True).origin
    with pytest.raises(
        UnknownModel,
        match="'tiny', which the images are to be embedded by, is no model here by name",
    ):
        open_input(photos, like=origin, device="cpu", quiet=True)
    assert open_input(photos, model=model_folder, like=origin, device="cpu", quiet=True).rows == 3


def test_images_are_embedded_as_those_that_they_must_be_like(
    photos: Path, model_folder: Path
) -> None:
    """At the size and by the decoding of an earlier table, whatever the model's own are."""
    from pauc_hub.embedding.embed import embed

    embed(
        photos,
        model_folder,
        output=photos.with_name("small.npy"),
        image_size=32,
        decoding="scaled",
        quiet=True,
    )
    origin = open_input(photos.with_name("small.npy")).origin
    assert origin.preprocessing["input_size"] == [3, 32, 32]
    given = open_input(photos, model=model_folder, like=origin, device="cpu", quiet=True)
    assert given.origin == origin


def test_a_deep_image_is_read_by_the_range_that_is_recorded(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    """It is not measured anew: of these numbers, no brighter than 4095, that would be another
    range.
    """
    new = tmp_path / "new"
    new.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(new / "deep.png")
    Image.open(photos / "20.png").save(new / "plain.png")
    origin = open_input(photos, model=model_folder, quiet=True).origin
    assert "value_range" not in origin.preprocessing
    measured = open_input(new, model=model_folder, table=tmp_path / "measured.parquet", quiet=True)
    assert "value_range" in measured.origin.preprocessing

    given = open_input(new, model=model_folder, like=origin, quiet=True)
    assert (given.origin, given.rows, given.unreadable) == (origin, 2, 0)
    Image.fromarray((values / 257).astype(np.uint8)).save(tmp_path / "same.png")
    same = pauc_hub.load(model_folder, precision=origin.precision).embed(
        [tmp_path / "same.png", photos / "20.png"]
    )
    np.testing.assert_allclose(
        read_table(given.path).embeddings, same, atol=0.02 * np.abs(same).max()
    )


def test_a_table_of_another_range_is_left_alone(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    origin = open_input(photos, model=model_folder, quiet=True).origin
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(photos / "deep.png")
    first = open_input(photos, model=model_folder, table=tmp_path / "first.parquet", quiet=True)
    assert first.origin != origin
    with pytest.raises(OutputExists, match="another model, space or value range"):
        open_input(photos, model=model_folder, like=origin, table=first.path, quiet=True)
