"""Shared by the tests of `pauc search`: a folder of five images and its table, made once."""

from pathlib import Path

import pytest
from searched_photos import picture, rewrite, save_pictures

from pauc_hub.cli import run
from pauc_hub.tables.stored import read_table
from pauc_hub.tables.table import Table


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Table:
    """The five images, embedded once for all tests."""
    root = tmp_path_factory.mktemp("embedded") / "photos"
    save_pictures(root)
    options = ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32", "--quiet"]
    assert run(["embed", str(root), *options]) == 0
    return read_table(root.with_suffix(".parquet"))


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path, embedded: Table
) -> None:
    """`photos/` with five images and its table, `model`, and `query.png`, which is `sub/c.webp` in
    other pixels.
    """
    monkeypatch.chdir(tmp_path)
    save_pictures(Path("photos"))
    picture(3).resize((90, 90)).save("query.png")
    Path("model").symlink_to(model_folder)
    rewrite("photos.parquet", embedded, root=str(Path("photos").absolute()))
