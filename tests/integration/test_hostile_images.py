"""The whole `pauc embed` over a corpus of hostile files: each ends as an embedding or as a reason,
and the run goes on.

Run as a program, this file is `pauc` without root's power over mode bits, and writes down its peak
memory.
"""

import ctypes
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pauc_hub.errors import PaucError
from pauc_hub.images.decoding import UNREADABLE_KINDS, read_with, readable
from pauc_hub.images.formats import has_heif
from pauc_hub.inference.model import load

READ = "embedded"
WORKERS = 2
LARGEST = 30_000 * 900  # pixels of the largest image of the corpus that is decoded
# alone; among others, the command measures it
OF_UNKNOWN_RANGE = {"32-bit.tif", "float.tif", "one float.tif"}
BYTES_A_PIXEL = 8  # Pillow takes four for RGB; as much again while it is turned or laid over white

Corpus = dict[str, tuple[str, Callable[[Path], object]]]


def give_up_root() -> None:
    """Let mode bits bind this thread and those it starts, also where it runs as root; no change for
    anybody else.
    """
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    sets[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, hostile_files: Corpus) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("corpus") / "hostile"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, (_, make) in hostile_files.items():
            make(root / name)
    yield root
    (root / "locked folder").chmod(0o700)  # so that it can be removed


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, hostile_files: Corpus) -> Path:
    root = tmp_path_factory.mktemp("good")
    _, make = hostile_files["plain.png"]
    for i in range(len(hostile_files)):
        make(root / f"{i:03}.png")
    return root


def pauc_embed(
    root: Path, output: Path, precision: str, vanishing: Path | None = None
) -> tuple[int, str]:
    """Exit code and stderr of the command; a file may vanish as soon as the first one is read."""
    options = ["-m", "pauc_resnet18", "--device", "cpu", "--precision", precision]
    options += ["--batch-size", "8", "--workers", str(WORKERS), "-o", str(output)]
    own = [str(output.with_suffix(".peak")), str(vanishing or "")]
    command = [sys.executable, __file__, *own, "embed", str(root), *options]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stderr


def peak(output: Path) -> int:
    """Bytes."""
    return int(output.with_suffix(".peak").read_text())


def outcomes_wanted(hostile_files: Corpus) -> dict[str, str]:
    wanted = {readable(name): outcome for name, (outcome, _) in hostile_files.items() if outcome}
    # the beginning of one
    return wanted | ({"heic.jpg": "damaged"} if has_heif() else {})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_whole_command(
    hostile: Path, good: Path, hostile_files: Corpus, tmp_path: Path, precision: str
) -> None:
    table = tmp_path / "t.parquet"
    errors = tmp_path / "t.errors.parquet"
    undisturbed = tmp_path / "good.parquet"

    _, make_photo = hostile_files["vanished.jpg"]
    make_photo(hostile / "vanished.jpg")
    assert pauc_embed(good, undisturbed, precision) == (0, "")
    code, told = pauc_embed(hostile, table, precision, hostile / "vanished.jpg")

    rows, reasons = pq.read_table(table).to_pylist(), pq.read_table(errors).to_pylist()
    outcomes = {row["path"]: READ for row in rows} | {row["path"]: row["kind"] for row in reasons}
    assert outcomes == outcomes_wanted(hostile_files)
    count = len(rows) + len(reasons)
    assert count == len(outcomes) >= 60
    warnings = [f"warning: {len(reasons)} of {count} images could not be read; listed in {errors}"]
    # one float among such of 1e38, and two files of two pages
    warnings.append(
        f"warning: 1 of {count} images are left with fewer than 32 levels of grey; "
        "--range LOW,HIGH says which numbers are black and white"
    )
    warnings.append(f"warning: 2 of {count} files have more than one page; the first was taken")
    assert (code, told.splitlines()) == (3, warnings)
    assert all(
        np.isfinite(row["embedding"]).all() and min(row["width"], row["height"]) > 0 for row in rows
    )
    assert all(
        row["kind"] in UNREADABLE_KINDS and len(row["message"].splitlines()) == 1 for row in reasons
    )
    assert peak(table) - peak(undisturbed) < WORKERS * LARGEST * BYTES_A_PIXEL


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_library(hostile: Path, hostile_files: Corpus, precision: str) -> None:
    (hostile / "vanished.jpg").unlink(missing_ok=True)
    model = load("pauc_resnet18", device="cpu", precision=precision)

    def outcome(name: str) -> str:
        try:
            return (
                READ
                if model.embed(hostile / name, workers=1).shape == (1, model.width)
                else "another shape"
            )
        except PaucError as error:
            return str(error)

    wanted = {
        name: outcome
        for name, (outcome, _) in hostile_files.items()
        if outcome and name != "locked folder/"
    }
    with ThreadPoolExecutor(1, initializer=give_up_root) as thread:
        found = dict(zip(wanted, thread.map(outcome, wanted), strict=True))
    refusals = {name: said for name, said in found.items() if said != READ}
    assert refusals.keys() == {name for name in wanted if wanted[name] != READ} | OF_UNKNOWN_RANGE
    for name, said in refusals.items():
        place = re.escape(readable(hostile / name))
        assert re.fullmatch(rf"image 0 \('{place}'\) cannot be read: .+\.", said)


if __name__ == "__main__":
    give_up_root()
    from pauc_hub.cli import main

    own_peak, vanishing = Path(sys.argv.pop(1)), sys.argv.pop(1)
    if vanishing:
        from pauc_hub.embedding import embed_files

        def read_and_remove(*arguments: Any) -> Any:
            # all files are listed by now, and this one comes late
            Path(vanishing).unlink(missing_ok=True)
            return read_with(*arguments)

        pytest.MonkeyPatch().setattr(embed_files, "read_with", read_and_remove)
    try:
        main()
    finally:
        status = Path("/proc/self/status").read_text()
        own_peak.write_text(str(int(status.split("VmHWM:")[1].split()[0]) << 10))
