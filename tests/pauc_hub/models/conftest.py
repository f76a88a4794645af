"""Shared by the tests of model folders: one as it was written."""

from pathlib import Path

import pytest
from small_model import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")
