"""Embedder: the class that other engines call with batches of rows."""

import importlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pauc_hub import Embedder, PaucError, UsageError, load

D = 96
datasets: Any = importlib.import_module("datasets")  # it has no types


def picture(seed: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    )


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def embedder(model_folder: Path) -> Embedder:
    return Embedder(model_folder, device="cpu", precision="fp32", batch_size=2)


@pytest.fixture(scope="module")
def expected(model_folder: Path) -> Any:
    """(3, D): what Model.embed gives for the pictures 0, 1 and 2."""
    return load(model_folder, device="cpu", precision="fp32").embed(
        [picture(seed) for seed in range(3)]
    )


def test_a_table_gains_two_columns_and_a_bad_row_costs_only_itself(
    embedder: Embedder, expected: Any
) -> None:
    images = [encoded(0), b"no image", encoded(1), None, encoded(2)]
    table = pa.table({"id": [5, 6, 7, 8, 9], "image": pa.array(images, pa.binary())})
    found = embedder(table)
    assert found.schema.names == ["id", "image", "embedding", "error"]
    assert found["id"].to_pylist() == [5, 6, 7, 8, 9]
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), D)
    rows = found["embedding"].to_pylist()
    assert [row is None for row in rows] == [False, True, False, True, False]
    np.testing.assert_allclose(np.array([rows[0], rows[2], rows[4]]), expected, atol=1e-5)
    errors = found["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, True, False, True]
    assert errors[1].startswith("row 1 cannot be read: not an image")
    assert errors[3] == "row 3 has no image."


def test_the_field_says_which_model_made_the_embeddings(
    embedder: Embedder, model_folder: Path
) -> None:
    found = embedder(pa.record_batch({"image": pa.array([encoded(0)])}))
    about = json.loads(found.schema.field("embedding").metadata[b"pauc"])
    assert about["weights_sha256"] == load(model_folder, device="cpu").weights_sha256
    assert about["space"] == "backbone"


def test_paths_structs_arrays_and_pictures_are_all_images(
    embedder: Embedder, expected: Any, tmp_path: Path
) -> None:
    path = tmp_path / "0.png"
    picture(0).save(path)
    kinds = [
        str(path),
        {"bytes": encoded(0), "path": None},
        {"bytes": None, "path": str(path)},
        picture(0),
    ]
    found = embedder({"image": [*kinds, np.asarray(picture(0))]})
    assert found["error"] == [None] * 5
    np.testing.assert_allclose(found["embedding"], np.repeat(expected[:1], 5, axis=0), atol=1e-5)


def test_in_a_dict_a_bad_row_is_nan(embedder: Embedder) -> None:
    found = embedder({"image": np.array([encoded(0), b"no"], dtype=object)})
    assert np.isnan(found["embedding"]).all(axis=1).tolist() == [False, True]


def test_it_is_pickled_without_its_model_and_works_after(embedder: Embedder, expected: Any) -> None:
    embedder({"image": [picture(0)]})
    again = pickle.loads(pickle.dumps(embedder))
    assert len(pickle.dumps(embedder)) < 2000
    np.testing.assert_allclose(
        again({"image": [picture(1)]})["embedding"], expected[1:2], atol=1e-5
    )


def test_datasets_maps_it_over_images(embedder: Embedder, expected: Any) -> None:
    rows = [{"bytes": encoded(seed), "path": None} for seed in range(3)]
    pictures = datasets.Dataset.from_dict({"image": rows}).cast_column("image", datasets.Image())
    found = pictures.map(embedder, batched=True, batch_size=2, new_fingerprint="embedded")
    np.testing.assert_allclose(np.array(found["embedding"]), expected, atol=1e-5)


def test_raise_stops_at_the_first_bad_row(model_folder: Path) -> None:
    embedder = Embedder(model_folder, column="picture", on_error="raise", device="cpu")
    with pytest.raises(PaucError, match=r"^row 1 cannot be read: not an image"):
        embedder({"picture": [encoded(0), b"no"]})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"picture": [], "id": []}, "column='image' is not in the batch, which has picture, id."),
        ({"image": [], "error": []}, "the batch has a column 'error' already: rename it first."),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    embedder: Embedder, batch: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        embedder(batch)
    assert str(refusal.value) == message


def test_an_unknown_way_with_errors_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"^on_error='ignore' is neither 'null' nor 'raise'\.$"):
        Embedder(on_error="ignore")
