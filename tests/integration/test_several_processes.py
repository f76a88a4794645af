"""`torchrun -m pauc_hub.cli embed`: the parts of several processes are the table of one, also after
one was killed.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchrun import TORCHRUN

from pauc_hub.cli import run
from pauc_hub.errors import TableError
from pauc_hub.tables.stored import read_table


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven images, which two processes cannot share evenly, and two broken ones."""
    monkeypatch.chdir(tmp_path)
    root = Path("photos")
    (root / "sub").mkdir(parents=True)
    for i in range(7):
        Image.new("RGB", (70 + i, 80), (30 * i, 10, 99)).save(
            root / ("sub" if i % 2 else ".") / f"{i}.png"
        )
    for name in ("1.png", "sub/9.png"):
        (root / name).write_text("broken")
    return root


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Two processes on this machine; the port is one that is free."""
    command = [*TORCHRUN, "-m", "pauc_hub.cli", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_two_processes_make_the_table_of_one(
    photos: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32"]
    assert run(["embed", "photos", "-o", "one.parquet", "--quiet", *options]) == 3
    done = torchrun("embed", "photos", "-o", "two.parquet", *options)
    # torchrun would take a 3 for a crash, and stop the other
    assert done.returncode == 0, done.stderr
    assert (
        "1 of 4 images could not be read; listed in "
        "two.errors.parquet/part-00000-of-00002.parquet\n"
    ) in done.stderr
    parts = [f"part-0000{rank}-of-00002.parquet" for rank in range(2)]
    assert sorted(path.name for path in Path("two.parquet").iterdir()) == parts
    one, two = read_table(Path("one.parquet")), read_table(Path("two.parquet"))
    assert two.paths == one.paths
    assert np.abs(two.embeddings - one.embeddings).max() <= 1e-5
    assert np.array_equal(two.sizes, one.sizes)
    assert (
        pq.read_table("two.errors.parquet")
        .sort_by("path")
        .equals(pq.read_table("one.errors.parquet"))
    )

    lost = Path("two.parquet") / parts[1]
    whole = lost.read_bytes()
    lost.unlink()  # as where a process died: the others' parts stay, and its own is made again
    (Path("two.errors.parquet") / parts[1]).unlink()
    with pytest.raises(
        TableError,
        match=r"^'two\.parquet' holds 1 of its 2 parts: the others are not done yet\.$",
    ):
        read_table(Path("two.parquet"))
    untouched = (Path("two.parquet") / parts[0]).stat().st_mtime_ns
    for rank in ("0", "1"):  # as torchrun, or whoever else, starts them again
        for name, value in {
            "RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_RANK": rank,
            "LOCAL_WORLD_SIZE": "2",
        }.items():
            monkeypatch.setenv(name, value)
        assert run(["embed", "photos", "-o", "two.parquet", "--quiet", *options]) == 0
    assert lost.read_bytes() == whole
    assert (Path("two.parquet") / parts[0]).stat().st_mtime_ns == untouched
