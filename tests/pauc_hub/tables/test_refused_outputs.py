"""Where a table cannot be written to, which is known before anything is."""

from pathlib import Path

import pytest

from pauc_hub.errors import OutputExists, PaucError, UsageError
from pauc_hub.tables.outputs import check_output

REFUSED_OUTPUTS = [
    (
        "there.parquet",
        OutputExists,
        r"^'.*/there\.parquet' exists\. Name another place, or give overwrite=True\.$",
    ),
    (
        "stale.parquet",
        OutputExists,
        r"^'.*/stale\.errors\.parquet' exists\. Name another place, or give overwrite=True\.$",
    ),
    ("stale.npy", OutputExists, r"^'.*/stale\.errors\.parquet' exists"),
    ("indexed.npy", OutputExists, r"^'.*/indexed\.index\.parquet' exists"),
    ("indexed.safetensors", OutputExists, r"^'.*/indexed\.index\.parquet' exists"),
    ("projected.parquet", OutputExists, r"^'.*/projected\.pca\.safetensors' exists"),
    ("folder.parquet", OutputExists, r"^'.*/folder\.parquet' is a folder\. Name another place\.$"),
    (
        "t.csv",
        UsageError,
        r"^the output '.*/t\.csv' must end in \.parquet, \.npy or \.safetensors\.$",
    ),
    (
        "no/t.parquet",
        UsageError,
        r"^'.*/no/t\.parquet' cannot be written \(No such file or directory\)\. Name another",
    ),
    ("there.parquet/t.parquet", UsageError, r"\(Not a directory\)"),
    # with a hidden t.pca.safetensors, that is
    ("n" * 230 + ".npy", UsageError, r"\(File name too long\)"),
]


@pytest.mark.parametrize(
    ("name", "error", "message"), REFUSED_OUTPUTS, ids=[row[0][:20] for row in REFUSED_OUTPUTS]
)
def test_outputs_that_cannot_be_are_refused_beforehand(
    tmp_path: Path, name: str, error: type[PaucError], message: str
) -> None:
    for there in (
        "there.parquet",
        "stale.errors.parquet",
        "indexed.index.parquet",
        "projected.pca.safetensors",
    ):
        (tmp_path / there).touch()
    (tmp_path / "folder.parquet").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        check_output(tmp_path / name, overwrite=False)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["indexed.parquet", "projected.npz.npy", "new.npy", "there.npy"])
def test_what_belongs_to_others_is_not_in_the_way(tmp_path: Path, name: str) -> None:
    for there in ("there.parquet", "indexed.index.parquet", "projected.pca.safetensors"):
        (tmp_path / there).touch()
    check_output(tmp_path / name, overwrite=False)


@pytest.mark.parametrize("name", ["there.parquet", "stale.parquet", "new.parquet"])
def test_overwriting_allows_what_is_there_and_touches_nothing_yet(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.parquet").write_bytes(b"old")
    (tmp_path / "stale.errors.parquet").write_bytes(b"old")
    check_output(tmp_path / name, overwrite=True)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["stale.errors.parquet", "there.parquet"]
    assert (tmp_path / "there.parquet").read_bytes() == b"old"
