"""`pauc train`, killed with SIGKILL at seeded random moments and resumed, ends as if nothing had happened."""

import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

IMAGES = 33  # four batches, and one image more
ENDED = 3  # done, but an image was unreadable
KILLS = {"building": 2, "learning": 6, "features": 3, "clustering": 2, "saving": 4, "publishing": 2, "anything": 2}
CLOCKS = ("images_per_second", "data_wait", "mstep_seconds", "estep_seconds", "estep_share", "memory_gib")
FILES = ["checkpoints", "config.json", "curves.png", "metrics.jsonl", "model", "tensorboard", "unreadable.txt"]
# What the process is doing is written into a file, a line whenever that changes, with the time.
PROGRAM = """
import time
import matplotlib.figure, timm, torch, torch.utils.tensorboard
from PIL import Image
from pauc_hub.cli import run
from pauc_hub.training import loop, state
from pauc_hub.training.run import run_folder
from pauc_hub.training.run import checkpoint_files

Image.init()
state.SECONDS_BETWEEN_CHECKPOINTS = 0  # one a step
loop.STEPS_BETWEEN_LINES = 1
diary, doing = os.open(DIARY, os.O_WRONLY | os.O_APPEND), ["anything"]

def note():
    os.write(diary, f"{doing[-1]} {time.monotonic()}\\n".encode())

def noted(name, place, function):
    inner = getattr(place, function)
    def call(*arguments, **named):
        doing.append(name)
        note()
        result = inner(*arguments, **named)
        doing.pop()
        note()
        return result
    setattr(place, function, call)

noted("beginning", run_folder, "begin")
noted("building", loop, "new_training")
noted("learning", loop, "learn")
noted("features", loop, "all_features")
noted("clustering", loop, "expect")
noted("listing", run_folder, "list_unreadable")
noted("telling", run_folder.Metrics, "_append")
noted("saving", checkpoint_files, "put")
noted("publishing", loop, "publish")
"""


class Run:
    """One run, started and resumed in ever new processes."""

    def __init__(self, server: Any, diary: Path, folder: Path, *options: str) -> None:
        self.run = folder / "run"
        self._server, self._diary = server, diary
        self._images, self._options = str(folder / "photos"), ["--config", str(folder / "tiny.toml"), *options]
        self._seconds: dict[str, float] = {}

    def _start(self) -> int:
        self._diary.write_text("")
        how = ["--resume"] if (self.run / "config.json").exists() else self._options
        fixed = ["--device", "cpu", "--workers", "1", "--quiet"]
        return int(self._server.start(["train", self._images, "-o", str(self.run), *how, *fixed]))

    def _noted(self) -> list[tuple[str, float]]:
        """What the process did until now, and from when on."""
        lines = [line.split() for line in self._diary.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(name, float(when)) for name, when in lines]

    def time(self) -> None:
        """Let it run from the beginning to the end, and note how long it does what."""
        assert self._server.end(self._start()) == ENDED
        noted = self._noted()
        spans = [(name, after - when) for (name, when), (_, after) in pairwise(noted)]
        counts = Counter(name for name, _ in spans)
        self._seconds = {name: sum(span for other, span in spans if other == name) / counts[name] for name in counts}
        self._seconds["anything"] = noted[-1][1] - noted[0][1]

    def kill(self, doing: str, times: int, share: float) -> str | None:
        """Kill it so far into what it does for that many times; tell what it was doing, or None where it had ended."""
        process = self._start()
        while not self._server.over(process, 0.002):
            if doing == "anything" or [name for name, _ in self._noted()].count(doing) >= times:
                if not self._server.over(process, share * self._seconds[doing]):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                break
        if (code := self._server.end(process)) == -signal.SIGKILL:
            return (self._noted() or [("anything", 0.0)])[-1][0]
        assert code == ENDED
        return None

    def finish(self) -> None:
        assert self._server.end(self._start()) == ENDED

    def place(self) -> str:
        """How far it is, for whoever looks at its folder."""
        return max((path.name for path in (self.run / "checkpoints").glob("*-*")), default="")

    def outcome(self) -> dict[str, Any]:
        """All that matters of a finished run; nothing else may lie there."""
        assert sorted(path.name for path in self.run.iterdir()) == FILES
        assert len(list((self.run / "checkpoints").iterdir())) == 1
        lines = [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]
        metrics = [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
        names = ("model.safetensors", "projector.safetensors", "prototypes.safetensors", "config.json")
        bytes_of = {name: (self.run / "model" / name).read_bytes() for name in names}
        settings, unreadable = ((self.run / name).read_text() for name in ("config.json", "unreadable.txt"))
        return bytes_of | {"metrics": metrics, "settings": settings, "unreadable": unreadable}


@pytest.fixture(scope="module")
def diary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diary") / "diary"
    path.touch()
    return path


@pytest.fixture(scope="module")
def server(fork_server: Any, diary: Path) -> Iterator[Any]:
    with fork_server(f"DIARY = {str(diary)!r}\n{PROGRAM}") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """photos/, one of which is unreadable, and tiny.toml."""
    (tmp_path / "photos").mkdir()
    for i in range(IMAGES):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(tmp_path / "photos" / f"{i:02}.png")
    (tmp_path / "photos" / "07.png").write_text("text")
    (tmp_path / "tiny.toml").write_text(
        'architecture = "test_resnet"\nsize = 32\nepochs = 3\nbatch_size = 8\nqueue = 16\ndim = 16\nclusters = [2, 3]\n'
        'weight_proto = 0.1\nnegatives = 2\nprecision = "fp32"\nkmeans = "torch"\n'
    )
    return tmp_path


def moments(seed: int) -> list[tuple[str, int, float]]:
    """What it is to be doing, for which time, and how far into that; publishing comes last, as it does in a run."""
    draw = random.Random(seed)
    drawn = [(doing, draw.randint(1, 2), draw.random()) for doing, count in KILLS.items() for _ in range(count)]
    draw.shuffle(drawn)
    once = ("building", "publishing")
    drawn = [(doing, 1 if doing in once else times, share) for doing, times, share in drawn]
    return sorted(drawn, key=lambda moment: {"building": 0, "publishing": 2}.get(moment[0], 1))


def test_weights_prototypes_and_metrics_are_those_of_an_undisturbed_run(server: Any, diary: Path, folder: Path) -> None:
    run = Run(server, diary, folder)
    run.time()
    whole = run.outcome()
    shutil.rmtree(run.run)
    other = Run(server, diary, folder, "--seed", "1")
    other.finish()
    differing = {name for name, value in other.outcome().items() if value != whole[name]}
    assert differing == {*whole} - {"config.json", "unreadable"}
    shutil.rmtree(run.run)

    met: list[tuple[str, str]] = []
    for doing, times, share in moments(5):
        for _ in range(4):  # where a kill falls is for the system to say
            killed_at = run.kill(doing, times, share)
            if killed_at is None:
                assert run.outcome() == whole
                shutil.rmtree(run.run)
                continue
            met.append((killed_at, run.place()))
            if doing in (killed_at, "anything"):
                break
    run.finish()
    assert run.outcome() == whole
    doings = Counter(doing for doing, _ in met)
    assert doings.total() >= 20
    assert doings.keys() >= {"building", "learning", "features", "saving", "publishing"}
    assert len({place for _, place in met}) >= 6  # so not at one place again and again
