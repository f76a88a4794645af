"""Links and other users' folders at fixed names are refused, and what they lead to is left
alone.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pauc_hub.embedding.embed_files import embed_files
from pauc_hub.embedding.workspace import FINISHED, RUN, working_folder
from pauc_hub.errors import Interrupted, UsageError
from pauc_hub.files.locks import locked
from pauc_hub.files.ownership import require_own
from pauc_hub.sources import open_source
from pauc_hub.training.config import Config
from pauc_hub.training.run.run_folder import FIXED, open_run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("thesis.txt", RUN, "000000000000-000000000009.arrow"):
        (folder / name).write_text("years of work")
    (folder / FINISHED).mkdir()
    (folder / FINISHED / "t.parquet").write_text("years of work")
    return folder


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def embed(tmp_path: Path, encoder: Any, **options: Any) -> Any:
    photos = tmp_path / "photos"
    photos.mkdir(exist_ok=True)
    for i in range(4):
        Image.new("RGB", (8, 8)).save(photos / f"{i}.png")
    return embed_files(
        encoder, open_source(photos), tmp_path / "t.parquet", quiet=True, batch_size=2, **options
    )


@pytest.mark.parametrize("options", [{}, {"restart": True}, {"overwrite": True}, {"update": True}])
def test_a_link_at_the_working_folder_is_refused(
    tmp_path: Path, precious: Path, mean_colour: Any, options: dict[str, bool]
) -> None:
    before = content(precious)
    working_folder(tmp_path / "t.parquet").symlink_to(precious)
    with pytest.raises(
        UsageError, match=r"^'.*/\.t\.parquet\.unfinished' is a symbolic link to '.*/precious'"
    ):
        embed(tmp_path, mean_colour(), **options)
    assert content(precious) == before
    assert not (tmp_path / "t.parquet").exists()


@needs_root
def test_another_users_working_folder_is_refused(tmp_path: Path, mean_colour: Any) -> None:
    folder = working_folder(tmp_path / "t.parquet")
    folder.mkdir()
    os.chown(folder, 12345, -1)
    with pytest.raises(UsageError, match=r"belongs to another user \(uid 12345\)"):
        embed(tmp_path, mean_colour())


def test_files_that_are_none_of_its_own_stay_in_the_working_folder(
    tmp_path: Path, mean_colour: Any
) -> None:
    folder = working_folder(tmp_path / "t.parquet")
    stopping = mean_colour()
    encode = stopping.encode

    def once(batch: Any, space: str) -> Any:
        if stopping.batches:
            raise KeyboardInterrupt
        return encode(batch, space)

    stopping.encode = once
    with pytest.raises(Interrupted):
        embed(tmp_path, stopping)
    (folder / "thesis.txt").write_text("years of work")
    (folder / ".run.json.0123abcd").write_text("half written")
    assert embed(tmp_path, mean_colour()).resumed == 2
    assert content(folder) == ["thesis.txt"]
    embed(tmp_path, mean_colour(), overwrite=True, restart=True)
    assert content(folder) == ["thesis.txt"]


@pytest.mark.parametrize("name", ["", *FIXED])
def test_a_link_in_place_of_a_run_or_in_it_is_refused(
    tmp_path: Path, precious: Path, name: str
) -> None:
    before = content(precious)
    run = tmp_path / "run"
    if name:
        run.mkdir()
    (run / name if name else run).symlink_to(precious)
    opened = open_run(run, Config(), "", resume=False, overwrite=True, restarted=False, quiet=True)
    with pytest.raises(UsageError, match="is a symbolic link"), opened:
        pass
    assert content(precious) == before


@needs_root
def test_a_lock_is_taken_on_ones_own_folder_alone(tmp_path: Path) -> None:
    with locked(tmp_path, "held"):
        pass
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, -1)
    with pytest.raises(UsageError, match="another user"), locked(theirs, "held"):
        pass


def test_a_file_system_that_gives_all_files_to_one_user_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # as root is, where NFS makes nobody of it
    (tmp_path / "mine").mkdir()
    require_own(tmp_path / "mine")
    require_own(tmp_path / "nothing")
