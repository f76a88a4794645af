"""Shared by the tests of `pauc train`: working directories without a run, and with a finished
one.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from runs_by_command import SETTINGS, TRAIN, write_photos

from pauc_hub.cli import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two epochs were trained by the command: photos/, tiny.toml and run/."""
    folder = tmp_path_factory.mktemp("finished")
    write_photos(folder / "photos")
    (folder / "tiny.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["pauc", *TRAIN, "--epochs", "2"])
        assert run([*TRAIN, "--epochs", "2", "--quiet"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with photos/ and tiny.toml, and no run yet."""
    write_photos(tmp_path / "photos")
    (tmp_path / "tiny.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def there(finished: Path, here: Path) -> Path:
    """The same with the finished run in it."""
    # files are replaced, never changed
    shutil.copytree(finished / "run", here / "run", copy_function=os.link)
    (here / "run" / "metrics.jsonl").unlink()
    shutil.copy(finished / "run" / "metrics.jsonl", here / "run")  # but for this one, which grows
    return here
