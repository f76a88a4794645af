"""A run of `embed_files` that dies at any touch of the file system goes on to the tables of an
undisturbed one.
"""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pauc_hub.embedding import workspace
from pauc_hub.embedding.embed_files import Summary, embed_files
from pauc_hub.sources import open_source


def photos(root: Path, count: int) -> Path:
    """Small images of one colour each; every tenth is unreadable."""
    root.mkdir()
    for i in range(count):
        if i % 10 == 3:
            (root / f"{i:03}.png").write_text("text")
        else:
            Image.new("RGB", (8, 8 + i % 5), (i % 256, 1, 2)).save(root / f"{i:03}.png")
    return root


def embed(encoder: Any, root: Path, **options: Any) -> Summary:
    output = root.with_name("t.parquet")
    return embed_files(
        encoder, open_source(root), output, batch_size=2, workers=1, quiet=True, **options
    )


def take_tables(folder: Path) -> dict[str, bytes]:
    """The tables in a folder, which is emptied of them; nothing else of a run may lie there."""
    tables = {path.name: path.read_bytes() for path in sorted(folder.glob("t.*"))}
    assert {path.name for path in folder.iterdir()} - {"photos"} == set(tables)
    for name in tables:
        (folder / name).unlink()
    return tables


@pytest.mark.parametrize("overwrite", [False, True])
def test_dying_at_any_touch_of_the_file_system(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dying_at: Any,
    mean_colour: Any,
    overwrite: bool,
) -> None:
    monkeypatch.setattr(workspace, "SHARD_SECONDS", 0)  # a shard a batch
    root = photos(tmp_path / "photos", 8)
    embed(mean_colour(), root)
    whole, touch = take_tables(tmp_path), -1
    while True:
        touch += 1
        if overwrite:
            (tmp_path / "t.parquet").write_text("old")
            (tmp_path / "t.errors.parquet").write_text("old")
        with dying_at(touch) as touches:
            embed(mean_colour(), root, overwrite=overwrite)
        embed(mean_colour(), root, overwrite=overwrite)
        assert take_tables(tmp_path) == whole
        if touches[0] <= touch:
            break
    assert touch > 30  # so the deaths did happen


@pytest.mark.parametrize("batches", range(1, 6))
def test_each_image_is_embedded_once_whatever_the_shard_that_was_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean_colour: Any, batches: int
) -> None:
    monkeypatch.setattr(workspace, "SHARD_SECONDS", 0)
    root = photos(tmp_path / "photos", 9)
    save = workspace.Workspace.save
    saved: list[int] = []

    class Death(BaseException):
        """No clean-up saves what is held."""

    def save_and_die(work: workspace.Workspace) -> None:
        if len(saved) == batches:
            raise Death
        save(work)
        saved.append(work.done)

    with monkeypatch.context() as patch:
        patch.setattr(workspace.Workspace, "save", save_and_die)
        with pytest.raises(Death):
            embed(mean_colour(), root)
    again = mean_colour()
    assert embed(again, root).resumed == saved[-1]
    assert sum(again.batches) == sum(i % 10 != 3 for i in range(saved[-1], 9))
