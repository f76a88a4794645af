"""Receipts name the code, the machine and the packages, and no commit that the code is not."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from pauc_hub.training.run import receipts


def git(folder: Path, *words: str) -> str:
    who = [
        "-c",
        "user.name=tester",
        "-c",
        "user.email=tester@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which receipts.py is committed; receipts believe that they lie there."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    # a hook that runs the tests has them
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q")
    file = tmp_path / "receipts.py"
    file.write_text("")
    git(tmp_path, "add", "receipts.py")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-am", "a release", "v1")  # a tag's name says less than the commit's
    monkeypatch.setattr(receipts, "__file__", str(file))
    return tmp_path


def test_the_commit_is_the_checkouts(checkout: Path) -> None:
    assert receipts.commit() == git(checkout, "rev-parse", "--short", "HEAD")


def test_a_changed_checkout_is_called_dirty(checkout: Path) -> None:
    (checkout / "receipts.py").write_text("changed")
    assert receipts.commit() == git(checkout, "rev-parse", "--short", "HEAD") + "-dirty"


def test_a_package_installed_inside_somebodys_repository_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / "site-packages" / "receipts.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(receipts, "__file__", str(installed))
    assert receipts.commit() is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert receipts.commit() is None


def test_versions_are_those_at_hand() -> None:
    versions = receipts.versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == version("torch")
    assert versions.keys() == {"python", *receipts.PACKAGES}


def test_hardware_names_the_processor() -> None:
    found = receipts.hardware(torch.device("cpu"))
    assert found["device"] == "cpu"
    assert found["name"]
    assert found["cores"] >= 1
    assert found["memory_gb"] >= 1
