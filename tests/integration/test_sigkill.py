"""`pauc embed`, killed with SIGKILL in each of its activities and at random moments, ends as if
undisturbed.
"""

import json
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying import Death, drawn_deaths, read_diary
from PIL import Image

from pauc_hub.tables.stored import read_table

IMAGES, BATCH = 50, 2
OLD = b"a table that is to be replaced"
ENDED = {0, 3}  # done; done, but some images were unreadable
PROGRAM = """
import pyarrow.parquet, timm, torch
from pathlib import Path
from PIL import Image
import pauc_hub.inference.model
from dying import Activities
from pauc_hub import cli
from pauc_hub.embedding import embed_files, workspace

workspace.SHARD_SECONDS = 0  # a shard a batch
Image.init()
cli.run(["embed", "/nowhere"])  # parses, and ends before torch has anything to do

activities = Activities(Path(DIARY))
activities.note("beginning", workspace, "_begin")
activities.note("loading", workspace.Workspace, "load")
activities.note("saving", workspace, "write_shard")
activities.note("joining", embed_files, "join_parts")
activities.note("publishing", workspace.Workspace, "publish")
activities.note("settling", workspace, "_settle")

def run(words):
    activities.order(words[0])
    return cli.run(words[1:])
"""


@pytest.fixture(scope="module")
def diary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diary") / "diary"


@pytest.fixture(scope="module")
def server(fork_server: Any, diary: Path) -> Iterator[Any]:
    with fork_server(f"DIARY = {str(diary)!r}\n{PROGRAM}") as server:
        yield server


class Run:
    """One command, given again and again, each time in a process of its own."""

    def __init__(
        self, server: Any, diary: Path, words: Sequence[str], before: bytes | None = None
    ) -> None:
        """Let it run from the beginning to the end, undisturbed, to see what it does and makes.

        Args:
            before: what is in the places of both tables before it begins.
        """
        self.table = Path(words[words.index("-o") + 1])
        self.errors = self.table.with_suffix(".errors.parquet")
        self.batch_sizes: Sequence[int] = (BATCH,)
        """One is drawn for each start."""
        self._server = server
        self._words = words
        self._draw = random.Random(0)
        self._before = before
        diary.write_text("")
        began = time.monotonic()
        self.finish()
        self.seconds = time.monotonic() - began
        self.activities = read_diary(diary)
        self.whole = self._tables()
        self.begin_anew()

    def _start(self, death: Death | None = None) -> int:
        """The process, as the server tells of it."""
        words = [*self._words, "--batch-size", str(self._draw.choice(self.batch_sizes))]
        return int(self._server.start([json.dumps(death), *words]))

    def finish(self) -> None:
        assert self._server.end(self._start()) in ENDED

    def die(self, death: Death) -> None:
        """There. Should it end before, since most was done, it begins anew."""
        if not self._is_killed(self._start(death)):
            self.begin_anew()
            assert self._is_killed(self._start(death)), death

    def kill(self, seconds: float) -> None:
        """So long after its start, wherever that is."""
        process = self._start()
        if not self._server.over(process, seconds):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        if not self._is_killed(process):
            self.begin_anew()

    def _is_killed(self, process: int) -> bool:
        """Or it has ended; the table is the old one or the new one, whole."""
        code = self._server.end(process)
        assert code in ENDED | {-signal.SIGKILL}
        found = self.table.read_bytes() if self.table.exists() else None
        assert found in (self._before, self.whole[self.table.name])
        return bool(code == -signal.SIGKILL)

    def _tables(self) -> dict[str, bytes]:
        """All that it left; nothing else may lie there."""
        tables = {path.name: path.read_bytes() for path in (self.table, self.errors)}
        assert {path.name for path in self.table.parent.iterdir()} == {"photos", *tables}
        return tables

    def begin_anew(self) -> None:
        """After its end: see that all is as it should be, and put back what was there before it."""
        assert self._tables() == self.whole
        for path in (self.table, self.errors):
            path.unlink() if self._before is None else path.write_bytes(self._before)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Small ones of noise, in two folders; every eleventh is unreadable."""
    for i in range(IMAGES):
        path = tmp_path / "photos" / f"{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 11 == 5:
            path.write_text("text")
        else:
            pixels = np.random.default_rng(i).integers(0, 256, (16, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.fixture
def words(photos: Path, model_folder: Path) -> list[str]:
    table = photos.with_name("t.parquet")
    fixed = [
        "-m",
        str(model_folder),
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        "1",
        "--quiet",
    ]
    return ["embed", str(photos), "-o", str(table), *fixed]


def test_the_tables_are_byte_for_byte_those_of_an_undisturbed_run(
    server: Any, diary: Path, words: list[str]
) -> None:
    run, draw = Run(server, diary, words), random.Random(7)
    done = run.activities
    # first those that leave the more to do
    deaths = drawn_deaths(draw, done, {"beginning": 2, "loading": 1})
    deaths += drawn_deaths(draw, done, {"saving": 6}, entries=4)
    deaths += drawn_deaths(draw, done, {"joining": 3, "publishing": 3, "settling": 3})
    for death in deaths:
        run.die(death)
    run.finish()
    run.begin_anew()
    for share in (0.3, 0.6, 0.9):
        run.kill(share * run.seconds)
    run.finish()
    run.begin_anew()


def test_the_old_table_stays_until_the_new_one_is_whole(
    server: Any, diary: Path, words: list[str]
) -> None:
    run, draw = Run(server, diary, [*words, "--overwrite"], before=OLD), random.Random(8)
    for death in drawn_deaths(
        draw, run.activities, {"beginning": 1, "saving": 1, "joining": 2, "settling": 2}
    ):
        run.die(death)
    run.finish()
    run.begin_anew()


def test_at_other_batch_sizes_the_rows_are_the_same(
    server: Any, diary: Path, words: list[str]
) -> None:
    run = Run(server, diary, words)
    run.finish()
    whole, errors = read_table(run.table), run.errors.read_bytes()
    run.begin_anew()
    run.batch_sizes = (1, 3, 5)
    for death in drawn_deaths(random.Random(9), run.activities, {"saving": 3}, entries=3):
        run.die(death)
    run.finish()
    found = read_table(run.table)
    assert (found.paths, found.provenance) == (whole.paths, whole.provenance)
    assert (found.sizes == whole.sizes).all()
    np.testing.assert_allclose(found.embeddings, whole.embeddings, rtol=0, atol=1e-5)
    assert run.errors.read_bytes() == errors
