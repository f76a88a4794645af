"""`pauc embed`, killed with SIGKILL at seeded random moments and given again, ends as if nothing had happened."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.tables.outputs import read_table

IMAGES, BATCH = 90, 2
OLD = b"a table that is to be replaced"
ENDED = {0, 3}  # done; done, but some images were unreadable
STAGES = ("starting", "embedding", "joining", "publishing", "published")
PROGRAM = """
import pyarrow.parquet, timm, torch
from PIL import Image
import pauc_hub.inference.model, pauc_hub.embedding.embed_files
from pauc_hub.embedding import workspace
from pauc_hub.cli import run

workspace.SHARD_SECONDS = 0  # a shard a batch
Image.init()
run(["embed", "/nowhere"])  # parses, and ends before torch has anything to do
"""

Moment = tuple[str, float]  # a stage, and the share of it that is over


@pytest.fixture(scope="module")
def server(fork_server: Any) -> Iterator[Any]:
    with fork_server(PROGRAM) as server:
        yield server


class Run:
    """One command, given again and again, each time in a process of its own; and the files that show how far it is."""

    def __init__(self, server: Any, folder: Path, words: Sequence[str]) -> None:
        self.folder, self.table, self.errors = folder, folder / "t.parquet", folder / "t.errors.parquet"
        self.batch_sizes: Sequence[int] = (BATCH,)
        """One is drawn for each start."""
        self._server, self._words, self._draw = server, words, random.Random(0)
        self._work = folder / ".t.parquet.unfinished"
        self._seconds: dict[str, float] = {}

    def _start(self) -> int:
        """The process, as the server tells of it."""
        words = [*self._words, "--batch-size", str(self._draw.choice(self.batch_sizes))]
        return int(self._server.start(words))

    def shards(self) -> int:
        return len(list(self._work.glob("*.arrow")))

    def stage(self) -> str:
        if self.table.exists() and self.table.read_bytes() != OLD:
            return "published"
        if (self._work / "finished").exists():
            return "publishing"
        if (self._work / "making").exists():
            return "joining"
        return "embedding" if self.shards() else "starting"

    def time(self) -> None:
        """Let it run from the beginning to the end, and note how long each stage takes."""
        process, seen = self._start(), {"starting": time.monotonic()}
        while not self._server.over(process, 0.002):
            seen.setdefault(self.stage(), time.monotonic())
        assert self._server.end(process) in ENDED
        seen.setdefault("publishing", seen.setdefault("published", time.monotonic()))  # it may be too quick to be seen
        self._seconds = {stage: seen[after] - seen[stage] for stage, after in pairwise(STAGES)}

    def kill(self, stage: str, share: float) -> str | None:
        """Start it, kill it once it is that far, and tell how far it was; None where it ended before."""
        process, done = self._start(), self.shards()
        while not self._server.over(process, 0.002) and not self._reached(stage, done):
            pass
        if not self._server.over(process, share * self._seconds[stage]):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        if (code := self._server.end(process)) == -signal.SIGKILL:
            return "starting" if self.stage() == "embedding" and self.shards() == done else self.stage()
        assert code in ENDED
        return None

    def _reached(self, stage: str, done: int) -> bool:
        if stage == "embedding":  # of a run that goes on, not of the one before
            return self.shards() > done
        return STAGES.index(self.stage()) >= STAGES.index(stage)

    def finish(self) -> None:
        assert self._server.end(self._start()) in ENDED

    def tables(self) -> dict[str, bytes]:
        """All that it left; nothing else may lie there."""
        tables = {path.name: path.read_bytes() for path in (self.table, self.errors)}
        assert {path.name for path in self.folder.iterdir()} == {"photos", *tables}
        return tables

    def begin_anew(self, whole: dict[str, bytes], before: bytes | None) -> None:
        """After its end: see that all is as it should be, and put back what was there before it."""
        assert self.tables() == whole
        for path in (self.table, self.errors):
            path.unlink() if before is None else path.write_bytes(before)


def moments(seed: int, **counts: int) -> list[Moment]:
    """So many in each stage; those before the tables are joined are mixed, and together span the embedding."""
    draw = random.Random(seed)
    latest = {"embedding": 2 / max(1, counts["embedding"])}
    drawn = [(stage, draw.random() * latest.get(stage, 1)) for stage, count in counts.items() for _ in range(count)]
    draw.shuffle(drawn)
    return sorted(drawn, key=lambda moment: max(STAGES.index(moment[0]), STAGES.index("embedding")))


def kill_at(
    run: Run, moments: Sequence[Moment], whole: dict[str, bytes], before: bytes | None
) -> list[tuple[str, int]]:
    """Kill it at each moment, and give it again until it ends; the stage and the shards that each kill met."""
    met: list[tuple[str, int]] = []
    for stage, share in moments:
        while not (killed_at := run.kill(stage, share)):
            run.begin_anew(whole, before)
            share /= 2
        met.append((killed_at, run.shards()))
        assert (run.table.read_bytes() if run.table.exists() else None) in (before, whole["t.parquet"])
        if killed_at in ("publishing", "published"):
            run.finish()
            run.begin_anew(whole, before)
    run.finish()
    assert run.tables() == whole
    return met


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
    fixed = ["-m", str(model_folder), "--device", "cpu", "--precision", "fp32", "--workers", "1", "--quiet"]
    return ["embed", str(photos), "-o", str(table), *fixed]


def test_the_tables_are_byte_for_byte_those_of_an_undisturbed_run(server: Any, photos: Path, words: list[str]) -> None:
    run = Run(server, photos.parent, words)
    run.time()
    whole = run.tables()
    run.begin_anew(whole, None)
    met = kill_at(run, moments(7, starting=4, embedding=9, joining=5, publishing=2), whole, None)
    stages = Counter(stage for stage, _ in met)
    assert stages.total() == 20
    assert stages["embedding"] >= 5  # where a kill falls is for the system to say, so no more than this is asked for
    assert stages["starting"] + stages["joining"] + stages["publishing"] + stages["published"] >= 3
    assert len({shards for _, shards in met if shards}) >= 5  # so not at one place again and again


def test_the_old_table_stays_until_the_new_one_is_whole(server: Any, photos: Path, words: list[str]) -> None:
    run = Run(server, photos.parent, [*words, "--overwrite"])
    run.time()
    whole = run.tables()
    run.begin_anew(whole, OLD)
    met = kill_at(run, moments(8, starting=1, embedding=3, joining=2, publishing=2), whole, OLD)
    stages = {stage for stage, _ in met}
    assert "embedding" in stages
    assert len(stages) >= 2


def test_at_other_batch_sizes_the_rows_are_the_same(server: Any, photos: Path, words: list[str]) -> None:
    run = Run(server, photos.parent, words)
    run.time()
    whole, errors = read_table(run.table), run.errors.read_bytes()
    for table in (run.table, run.errors):
        table.unlink()
    run.batch_sizes = (1, 3, 5)
    assert [run.kill("embedding", 0) for _ in range(4)].count("embedding") >= 2
    run.finish()
    found = read_table(run.table)
    assert (found.paths, found.provenance) == (whole.paths, whole.provenance)
    assert (found.sizes == whole.sizes).all()
    np.testing.assert_allclose(found.embeddings, whole.embeddings, rtol=0, atol=1e-5)
    assert run.errors.read_bytes() == errors
