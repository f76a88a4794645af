"""`pauc train`, killed with SIGKILL in each of its activities and at random moments, ends as if
undisturbed.
"""

import json
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying import Death, drawn_deaths, read_diary
from PIL import Image

IMAGES = 33  # four batches, and one image more
ENDED = 3  # done, but an image was unreadable
# Deaths in each activity. The first of a run come first, and publishing last, as they do in a run.
FIRST = {"beginning": 1, "building": 1}
AMID = {
    "learning": 2,
    "features": 1,
    "clustering": 2,
    "listing": 1,
    "telling": 3,
    "saving": 4,
    "writing": 2,
}
LAST = {"publishing": 2}
CLOCKS = (
    "images_per_second",
    "data_wait",
    "mstep_seconds",
    "estep_seconds",
    "estep_share",
    "memory_gib",
)
FILES = [
    "checkpoints",
    "config.json",
    "curves.png",
    "metrics.jsonl",
    "model",
    "tensorboard",
    "unreadable.txt",
]
PROGRAM = """
import timm, torch, torch.utils.tensorboard
from pathlib import Path
from PIL import Image
from dying import Activities
from pauc_hub import cli
from pauc_hub.training import expectation_step, finish, loop, state
from pauc_hub.training.monitoring import curves
from pauc_hub.training.run import run_folder
from pauc_hub.training.run import checkpoint_files

Image.init()
cli.run(["train", "/nowhere"])  # imports all that parsing needs
state.SECONDS_BETWEEN_CHECKPOINTS = 0  # one a step
loop.STEPS_BETWEEN_LINES = 1
curves.draw = lambda history, path: path.touch()  # drawing takes as long as all else

activities = Activities(Path(DIARY))
activities.note("beginning", run_folder, "begin")
activities.note("building", loop, "new_training")
activities.note("learning", loop, "take_step")
activities.note("features", expectation_step, "all_features")
activities.note("clustering", expectation_step, "expect")
activities.note("listing", run_folder, "list_unreadable")
activities.note("telling", run_folder.Metrics, "_append", written=lambda metrics, *_: metrics.path)
activities.note("saving", checkpoint_files, "put")
activities.note("writing", checkpoint_files, "save_file", written=lambda tensors, path, *_: path)
activities.note("publishing", finish, "publish")

def run(words):
    activities.order(words[0])
    return cli.run(words[1:])
"""


class Run:
    """One run, started and resumed in ever new processes."""

    def __init__(self, server: Any, folder: Path, *options: str) -> None:
        self.run = folder / "run"
        self._server = server
        self._images = str(folder / "photos")
        self._options = ["--config", str(folder / "tiny.toml"), *options]

    def _start(self, death: Death | None = None) -> int:
        how = ["--resume"] if (self.run / "config.json").exists() else self._options
        fixed = ["--device", "cpu", "--workers", "1", "--quiet"]
        words = ["train", self._images, "-o", str(self.run), *how, *fixed]
        return int(self._server.start([json.dumps(death), *words]))

    def dies(self, death: Death) -> bool:
        """Whether it came so far."""
        return self._killed(self._start(death))

    def is_killed(self, seconds: float) -> bool:
        """So long after its start; whether it was still running."""
        process = self._start()
        if not self._server.over(process, seconds):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        return self._killed(process)

    def _killed(self, process: int) -> bool:
        code = self._server.end(process)
        assert code in (-signal.SIGKILL, ENDED)
        return bool(code == -signal.SIGKILL)

    def finish(self) -> None:
        assert self._server.end(self._start()) == ENDED

    def outcome(self) -> dict[str, Any]:
        """All that matters of a finished run; nothing else may lie there."""
        assert sorted(path.name for path in self.run.iterdir()) == FILES
        assert len(list((self.run / "checkpoints").iterdir())) == 1
        lines = [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]
        metrics = [
            {name: value for name, value in line.items() if name not in CLOCKS} for line in lines
        ]
        names = (
            "model.safetensors",
            "projector.safetensors",
            "prototypes.safetensors",
            "config.json",
        )
        bytes_of = {name: (self.run / "model" / name).read_bytes() for name in names}
        settings, unreadable = (
            (self.run / name).read_text() for name in ("config.json", "unreadable.txt")
        )
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
        'architecture = "test_resnet"\nsize = 32\nepochs = 3\nbatch_size = 8\nqueue = 16\ndim '
        "= 16\nclusters = [2, 3]\n"
        'weight_proto = 0.1\nnegatives = 2\nprecision = "fp32"\nkmeans = "torch"\n'
    )
    return tmp_path


def deaths(found: Mapping[str, Sequence[int]]) -> list[Death]:
    draw = random.Random(5)
    amid = drawn_deaths(draw, found, AMID)
    draw.shuffle(amid)
    return drawn_deaths(draw, found, FIRST) + amid + drawn_deaths(draw, found, LAST)


def test_weights_prototypes_and_metrics_are_those_of_an_undisturbed_run(
    server: Any, diary: Path, folder: Path
) -> None:
    run = Run(server, folder)
    began = time.monotonic()
    run.finish()
    seconds = time.monotonic() - began
    found = read_diary(diary)
    whole = run.outcome()
    shutil.rmtree(run.run)
    other = Run(server, folder, "--seed", "1")
    other.finish()
    differing = {name for name, value in other.outcome().items() if value != whole[name]}
    assert differing == {*whole} - {"config.json", "unreadable"}
    shutil.rmtree(run.run)

    def begin_anew() -> None:
        assert run.outcome() == whole
        shutil.rmtree(run.run)

    for death in deaths(found):
        if not run.dies(death):
            begin_anew()
            assert run.dies(death), death
    run.finish()
    begin_anew()
    for share in (0.3, 0.8):
        # where this falls is for the system to say
        if not run.is_killed(share * seconds):
            begin_anew()
    run.finish()
    assert run.outcome() == whole
