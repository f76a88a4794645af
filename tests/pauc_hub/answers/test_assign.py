"""assign(): ids, names, similarities and outliers of new images; a model's own prototypes; what
does not fit.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.answers.assign import assign
from pauc_hub.answers.cluster import cluster
from pauc_hub.errors import OriginMismatch, OutputExists, TableError, UsageError
from pauc_hub.inference.model import load
from pauc_hub.models.folder import open_folder

WriteTable = Callable[..., Path]
Blobs = Callable[..., npt.NDArray[np.float32]]
Picture = Callable[[int, int], Image.Image]


@pytest.fixture
def prototypes(tmp_path: Path, write_table: WriteTable, blobs: Blobs) -> Path:
    """3 and 6 prototypes of 600 rows about 6 directions."""
    return cluster(
        write_table(tmp_path / "train.parquet", blobs(600, 6, spread=0.05)), [3, 6], quiet=True
    ).output


def test_new_rows_by_their_direction(
    tmp_path: Path, prototypes: Path, write_table: WriteTable, blobs: Blobs
) -> None:
    new = blobs(60, 6, spread=0.05, seed=1)
    # one row that is like nothing
    new[7] = -1
    found = assign(write_table(tmp_path / "new.parquet", new), prototypes=prototypes, quiet=True)
    assert found.output == tmp_path / "new.assignments.parquet"
    columns = pq.read_table(found.output).to_pydict()
    of_blobs = {(i % 6, each) for i, each in enumerate(columns["prototype_6"]) if i != 7}
    assert len(of_blobs) == 6
    assert columns["outlier"][7]
    assert found.outliers == sum(columns["outlier"]) < 15
    unit = new / np.linalg.norm(new, axis=1, keepdims=True)
    centroids = found.prototypes.levels[1].centroids.numpy()
    expected = np.sort(unit @ centroids.T, axis=1)
    np.testing.assert_allclose(columns["similarity_6"], expected[:, -1], atol=1e-5)
    np.testing.assert_allclose(columns["margin_6"], expected[:, -1] - expected[:, -2], atol=1e-5)
    confidence = np.array(columns["confidence_6"])
    assert np.all((confidence > 0) & (confidence <= 1))
    assert np.all(np.array(columns["confidence_3"]) >= confidence - 1e-6)


def test_fewer_outliers_are_flagged_where_fewer_are_asked_for(
    tmp_path: Path, prototypes: Path, write_table: WriteTable, blobs: Blobs
) -> None:
    new = write_table(tmp_path / "new.parquet", blobs(200, 6, spread=0.08, seed=1))
    many, few = (
        assign(
            new, prototypes=prototypes, alpha=alpha, output=tmp_path / f"{alpha}.csv", quiet=True
        ).outliers
        for alpha in (0.5, 0.05)
    )
    assert many is not None
    assert few is not None
    assert many > few


def test_csv_names_and_exemplars(
    tmp_path: Path, prototypes: Path, write_table: WriteTable, blobs: Blobs
) -> None:
    (tmp_path / "names.csv").write_text('prototype,name\n0,"a, b"\n')
    table = write_table(tmp_path / "new.parquet", blobs(30, 6, seed=2))
    found = assign(
        table,
        prototypes=prototypes,
        names=tmp_path / "names.csv",
        output=tmp_path / "o.csv",
        exemplars=2,
        quiet=True,
    )
    rows = [*csv.DictReader((tmp_path / "o.csv").read_text().splitlines())]
    assert {row["name_6"] for row in rows if row["prototype_6"] == "0"} == {"a, b"}
    assert {row["name_6"] for row in rows if row["prototype_6"] != "0"} == {""}
    assert found.exemplars == tmp_path / "o.exemplars.csv"
    listed = [
        row
        for row in csv.DictReader(found.exemplars.read_text().splitlines())
        if row["granularity"] == "6"
    ]
    ours = sorted(
        (float(row["similarity_6"]) for row in rows if row["prototype_6"] == "0"), reverse=True
    )
    central = [row for row in listed if row["prototype"] == "0" and row["kind"] == "central"]
    assert [row["rank"] for row in central] == ["1", "2"]
    assert [float(row["similarity"]) for row in central] == pytest.approx(ours[:2], abs=1e-5)
    borderline = [
        row["path"] for row in listed if row["prototype"] == "0" and row["kind"] == "borderline"
    ]
    margins = {row["path"]: float(row["margin_6"]) for row in rows if row["prototype_6"] == "0"}
    others = sorted(set(margins) - {row["path"] for row in central}, key=lambda path: margins[path])
    assert borderline == others[:2]


def test_a_model_brings_its_own_prototypes(
    tmp_path: Path, model_folder: Path, picture: Picture
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for side in (20, 30, 40):
        picture(side, side).save(photos / f"{side}.png")
    found = assign(photos, model=model_folder, device="cpu", quiet=True)
    columns = pq.read_table(found.output).to_pydict()
    assert found.outliers is None
    assert {*columns["confidence_4"], *columns["outlier"]} == {None}
    assert not found.prototypes.nested
    model = load(model_folder, device="cpu")
    vectors = model.embed([photos / f"{side}.png" for side in (20, 30, 40)], space="projection")
    similarities = vectors @ open_folder(model_folder).read_prototypes()[0].centroids.numpy().T
    assert columns["prototype_4"] == similarities.argmax(axis=1).tolist()
    np.testing.assert_allclose(columns["similarity_4"], similarities.max(axis=1), atol=1e-4)


def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    prototypes: Path,
    write_table: WriteTable,
    blobs: Blobs,
    model_folder: Path,
    headless_folder: Path,
) -> None:
    other = write_table(tmp_path / "other.parquet", blobs(10, 2), weights_sha256="cd" * 32)
    with pytest.raises(OriginMismatch, match="differ in weights"):
        assign(other, prototypes=prototypes, quiet=True)
    narrow = write_table(tmp_path / "narrow.parquet", blobs(10, 2)[:, :4])
    with pytest.raises(TableError, match="has 4 numbers an image, and the prototypes have 8"):
        assign(narrow, prototypes=prototypes, quiet=True)
    with pytest.raises(TableError, match="and not by 'tiny'"):
        assign(other, model=model_folder, quiet=True)
    sha = open_folder(model_folder).weights_sha256
    backbone = write_table(tmp_path / "backbone.parquet", blobs(10, 2), weights_sha256=sha)
    with pytest.raises(
        TableError,
        match="holds the backbone space, and a model's prototypes live in the projection",
    ):
        assign(backbone, model=model_folder, quiet=True)
    with pytest.raises(UsageError, match="has no prototypes"):
        assign(backbone, model=headless_folder, quiet=True)
    with pytest.raises(UsageError, match=r"alpha=1.5 is not between 0 and 1"):
        assign(other, prototypes=prototypes, alpha=1.5)
    with pytest.raises(UsageError, match=r"must end in .parquet or .csv"):
        assign(other, prototypes=prototypes, output=tmp_path / "o.txt")
    with pytest.raises(OutputExists, match="exists"):
        assign(tmp_path / "train.parquet", prototypes=prototypes, quiet=True)


def test_a_model_is_not_taken_for_a_prototypes_file(tmp_path: Path, model_folder: Path) -> None:
    for given in (model_folder, model_folder / "prototypes.safetensors"):
        with pytest.raises(
            UsageError, match=r"belongs to a model: give model='.*' in place of prototypes"
        ):
            assign(tmp_path, prototypes=given, quiet=True)
