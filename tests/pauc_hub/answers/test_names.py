"""Names for prototypes: read from CSV, put into a file, and refused where they fit nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pauc_hub.answers.cluster import cluster
from pauc_hub.answers.names import name_file
from pauc_hub.clustering.prototype_set import read_prototypes
from pauc_hub.errors import UsageError


@pytest.fixture
def prototypes(
    tmp_path: Path, write_table: Callable[..., Path], blobs: Callable[..., npt.NDArray[np.float32]]
) -> Path:
    return cluster(write_table(tmp_path / "t.parquet", blobs(40, 4)), [2, 4], quiet=True).output


def test_a_file_gets_names_and_keeps_the_rest(tmp_path: Path, prototypes: Path) -> None:
    before = read_prototypes(prototypes)
    names = tmp_path / "names.csv"
    names.write_text(
        "\ufeffname,prototype,granularity,note\ncats,3,,x\n,1,,y\nhalf,0,2,z\n", encoding="utf-8"
    )
    assert name_file(prototypes, names) == 2
    names.write_text("prototype,name\n1,dogs\n")
    assert name_file(prototypes, names, tmp_path / "more.prototypes.safetensors") == 3
    assert read_prototypes(prototypes).names == (("half", None), (None, None, None, "cats"))
    after = read_prototypes(tmp_path / "more.prototypes.safetensors")
    assert after.names == (("half", None), (None, "dogs", None, "cats"))
    assert after.levels[1].centroids.tolist() == before.levels[1].centroids.tolist()
    assert after.facts == before.facts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prototype,label\n1,a\n", "has no column 'name' \\(its columns: prototype, label\\)"),
        ("prototypes,name\n1,a\n", "has no column 'prototype' .* Is it 'prototypes'?"),
        ("prototype,name\n4,a\n", "names prototype 4 of 4: they are 0 to 3"),
        (
            "prototype,name,granularity\n1,a,3\n",
            "names a prototype of granularity 3; there are 2, 4",
        ),
        ("prototype,name\n0,a\nx,b\n", "line 3 of .* has no number"),
    ],
)
def test_names_that_fit_nothing(tmp_path: Path, prototypes: Path, text: str, said: str) -> None:
    names = tmp_path / "names.csv"
    names.write_text(text)
    with pytest.raises(UsageError, match=said):
        name_file(prototypes, names)


def test_files_that_cannot_be_read(tmp_path: Path, prototypes: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        name_file(prototypes, tmp_path / "none.csv")
    (tmp_path / "names.csv").write_bytes(b"prototype,name\n1,\xff\n")
    with pytest.raises(UsageError, match="no CSV file in UTF-8"):
        name_file(prototypes, tmp_path / "names.csv")
