"""cluster(): blobs are found, granularities nest, a stop loses nothing, and bad calls are refused
before any work.
"""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pauc_hub.answers import cluster as module
from pauc_hub.answers.assign import assign
from pauc_hub.answers.cluster import automatic_granularities, cluster
from pauc_hub.answers.cluster_state import ClusterState
from pauc_hub.clustering.prototype_set import read_prototypes
from pauc_hub.errors import Interrupted, OutputExists, UsageError

WriteTable = Callable[..., Path]
Blobs = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture
def table(tmp_path: Path, write_table: WriteTable, blobs: Blobs) -> Path:
    """600 rows about 6 directions."""
    return write_table(tmp_path / "t.parquet", blobs(600, 6, spread=0.02))


def test_blobs_are_found_and_nest(table: Path) -> None:
    found = cluster(table, [2, 6, 24], quiet=True)
    prototypes = read_prototypes(found.output)
    assert prototypes.granularities == (2, 6, 24)
    assert prototypes.nested
    assert found.output == table.with_name("t.prototypes.safetensors")
    columns = pq.read_table(found.assignments).to_pydict()
    assert columns["path"] == [f"{i:05}.png" for i in range(600)]
    # of one blob each, whatever their numbers
    pairs = {(i % 6, prototype) for i, prototype in enumerate(columns["prototype_6"])}
    assert len(pairs) == 6
    for coarse, fine in ((2, 6), (6, 24)):
        inside = {*zip(columns[f"prototype_{fine}"], columns[f"prototype_{coarse}"], strict=True)}
        assert len(inside) == fine
    for level in prototypes.levels:
        assert int(level.sizes.sum()) == 600
        torch.testing.assert_close(level.centroids.norm(dim=1), torch.ones(len(level.centroids)))
    assert prototypes.facts["kept"] == 60
    assert prototypes.facts["stability"][1] == pytest.approx(1)
    assert prototypes.facts["silhouette"][1] > 0.9
    assert prototypes.calibration is not None
    assert prototypes.calibration.errors[2] < 0.1


def test_assign_says_of_the_same_table_what_cluster_said(table: Path) -> None:
    found = cluster(table, [3, 9], quiet=True)
    again = assign(
        table, prototypes=found.output, output=table.with_name("again.parquet"), quiet=True
    )
    assert pq.read_table(again.output).equals(pq.read_table(found.assignments))


def test_a_small_table_is_uncalibrated(
    tmp_path: Path, write_table: WriteTable, blobs: Blobs
) -> None:
    found = cluster(write_table(tmp_path / "t.parquet", blobs(40, 4)), 4, quiet=True)
    assert found.prototypes.calibration is None
    assert found.outliers is None
    columns = pq.read_table(found.assignments).to_pydict()
    assert {*columns["confidence_4"], *columns["outlier"]} == {None}


def test_the_same_call_gives_the_same_files(table: Path, tmp_path: Path) -> None:
    first, second = (
        cluster(table, 5, output=tmp_path / f"{i}.prototypes.safetensors", quiet=True)
        for i in (1, 2)
    )
    assert first.output.read_bytes() == second.output.read_bytes()
    other = cluster(table, 5, output=tmp_path / "3.prototypes.safetensors", seed=1, quiet=True)
    assert other.output.read_bytes() != first.output.read_bytes()


@pytest.mark.parametrize("stop", [3, 30])
def test_a_stopped_call_goes_on_where_it_stopped(
    tmp_path: Path,
    write_table: WriteTable,
    blobs: Blobs,
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped within k-means, or among the reclusterings; tables on a broad cloud, so that k-means
    takes its time.
    """
    table = write_table(tmp_path / "t.parquet", blobs(600, 6, spread=2))
    whole = cluster(table, 30, output=tmp_path / "whole.prototypes.safetensors", quiet=True)
    done = [0]

    class Stopping(ClusterState):
        def iterated(self, iteration: int, centroids: torch.Tensor) -> None:
            super().iterated(iteration, centroids)
            self._count()

        def reclustered(self, found: Any) -> None:
            super().reclustered(found)
            self._count()

        def _count(self) -> None:
            done[0] += 1
            if done[0] == stop:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "ClusterState", Stopping)
    output = tmp_path / "t.prototypes.safetensors"
    with pytest.raises(Interrupted, match="goes on where it stopped"):
        cluster(table, 30, quiet=True)
    assert not output.exists()
    cluster(table, 30, quiet=True)
    # the seeds, the iterations and the reclusterings of one whole call, and the one assignment that
    # is done again
    assert done[0] == 1 + whole.prototypes.facts["iterations"] + 20 + 1
    found = read_prototypes(output)
    assert torch.equal(found.levels[0].sizes, whole.prototypes.levels[0].sizes)
    torch.testing.assert_close(found.levels[0].centroids, whole.prototypes.levels[0].centroids)
    assert found.facts["iterations"] == whole.prototypes.facts["iterations"]
    assert found.facts["stability"] == pytest.approx(whole.prototypes.facts["stability"])
    assert [*tmp_path.glob(".*")] == []


def test_what_another_call_left_is_no_start(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "recluster", stop)
        with pytest.raises(Interrupted):
            cluster(table, 30, quiet=True)
    assert cluster(table, 5, quiet=True).prototypes.granularities == (5,)


def test_names_come_out(table: Path, tmp_path: Path) -> None:
    first = cluster(table, [2, 6], quiet=True)
    prototype = pq.read_table(first.assignments)["prototype_6"][0].as_py()
    (tmp_path / "names.csv").write_text(
        f"granularity,prototype,name\n,{prototype},first\n2,1,half\n"
    )
    found = cluster(table, [2, 6], names=tmp_path / "names.csv", overwrite=True, quiet=True)
    columns = pq.read_table(found.assignments).to_pydict()
    assert columns["name_6"][:7] == ["first", None, None, None, None, None, "first"]
    assert {*zip(columns["prototype_2"], columns["name_2"], strict=True)} == {
        (0, None),
        (1, "half"),
    }
    listed = [*csv.DictReader(found.exemplars.read_text().splitlines())]
    assert {row["name"] for row in listed if row["granularity"] == "6"} == {"first", ""}


def test_the_page_shows_images_that_are_there(
    tmp_path: Path, write_table: WriteTable, blobs: Blobs
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    names = [f"{i}.png" for i in range(12)]
    for name in names[:9]:
        Image.new("RGB", (8, 8), "red").save(root / name)
    names[8] = "8.png"
    path = write_table(tmp_path / "t.parquet", blobs(12, 3), names, root=str(root))
    found = cluster(path, 3, quiet=True)
    assert (found.pictured, found.unpictured) == (9, 3)
    page = found.sheet.read_text()
    assert page.count('src="data:image/jpeg;base64,') == 9
    assert page.count("<section id=") == 3
    assert "http" not in page


def test_empty_clusters_are_left_out(tmp_path: Path, write_table: WriteTable) -> None:
    """Rows that differ in length alone: as many distinct rows at unit length as there are
    directions.
    """
    vectors = (
        np.eye(4, dtype=np.float32)[np.arange(40) % 4] * np.arange(1, 41, dtype=np.float32)[:, None]
    )
    table = write_table(tmp_path / "t.parquet", vectors)
    # nobody who leaves the numbers open is told to give others
    assert cluster(
        table, quiet=True, output=tmp_path / "auto.prototypes.safetensors"
    ).prototypes.granularities == (2,)
    with pytest.raises(
        UsageError, match=r"k=5 is more than the 4 different rows of .* Give 4 or less"
    ):
        cluster(table, 5, quiet=True)
    found = cluster(table, 4, quiet=True)
    assert found.prototypes.levels[0].sizes.tolist() == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (601, "k=601 is more than the 600 rows"),
        (0, "k=0 is not within 1 and 20000"),
        ([5, 20_001], "k=5,20001 is not within 1 and 20000"),
        ("many", "k='many' is neither auto nor a number"),
    ],
)
def test_numbers_of_prototypes_that_cannot_be(table: Path, k: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cluster(table, k, quiet=True)
    assert [*table.parent.iterdir()] == [table]


def test_nothing_is_overwritten_unasked(table: Path) -> None:
    (table.parent / "t.prototypes.html").write_text("mine")
    with pytest.raises(OutputExists, match=r"t\.prototypes\.html' exists"):
        cluster(table, 3, quiet=True)
    with pytest.raises(UsageError, match=r"must end in \.prototypes\.safetensors"):
        cluster(table, 3, output=table.with_name("t.safetensors"), quiet=True)
    assert (table.parent / "t.prototypes.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, (1,)),
        (4, (2,)),
        (15, (2, 4)),
        (100, (2, 10)),
        (400, (5, 20)),
        (10_000, (31, 125, 500)),
        (10**6, (62, 250, 1000)),
    ],
)
def test_automatic_granularities(rows: int, expected: tuple[int, ...]) -> None:
    assert automatic_granularities(rows) == expected


def test_prototypes_know_their_origin(table: Path) -> None:
    from pauc_hub.tables.stored import read_provenance

    found = read_prototypes(cluster(table, 3, quiet=True).output)
    origin = read_provenance(table).origin
    assert found.origin == origin
    assert found.origin != replace(origin, weights_sha256="00")
