"""Ray Data calls Embedder with batches of rows, in processes of its own, as docs/scale.md shows
it.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

import pauc_hub

MODEL = "pauc_resnet18"
ROWS = 10
BROKEN = 4


def picture(seed: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    )


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def embedded(folder: Path, **how: Any) -> list[dict[str, Any]]:
    """The rows that come back, in the order of their numbers."""
    images = [encoded(row) if row != BROKEN else b"no image" for row in range(ROWS)]
    table = pa.table({"id": range(ROWS), "image": pa.array(images, pa.binary())})
    pq.write_table(table, folder / "photos.parquet", row_group_size=5)
    found = ray.data.read_parquet(str(folder)).map_batches(**how)
    return sorted(found.take_all(), key=lambda row: row["id"])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("form", ["class", "instance"])
def test_the_same_rows_come_back_with_embedding_and_error(tmp_path: Path, form: str) -> None:
    how: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 4}
    if form == "class":
        arguments = {"model": MODEL, "precision": "fp32", "device": "cpu"}
        how |= {"fn": pauc_hub.Embedder, "fn_constructor_kwargs": arguments, "concurrency": 1}
    else:
        how |= {"fn": pauc_hub.Embedder(MODEL, precision="fp32", device="cpu").__call__}
    rows = embedded(tmp_path, **how)
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["error"] is None for row in rows] == [row != BROKEN for row in range(ROWS)]
    assert rows[BROKEN]["embedding"] is None
    there = [row for row in range(ROWS) if row != BROKEN]
    expected = pauc_hub.load(MODEL, device="cpu", precision="fp32").embed(
        [picture(row) for row in there]
    )
    np.testing.assert_allclose(
        np.array([rows[row]["embedding"] for row in there]), expected, atol=1e-4
    )
