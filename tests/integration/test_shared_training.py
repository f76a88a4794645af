"""`torchrun -m pauc_hub.cli train`: two processes train what one does, and no death of a process loses a checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.run.checkpoint import read_place
from pauc_hub.training.run.checkpoint_files import standing

# As `pauc`, which torchrun starts by a file.
PROGRAM = """\
from pauc_hub.cli import main
main()
"""
SETTINGS = """\
architecture = "test_resnet"
size = 32
batch_size = 64
norm_group = 32
queue = 128
dim = 16
clusters = [2, 4]
crop_min = 0.5
precision = "fp32"
kmeans = "torch"
symmetric = true
"""
TRAIN = ("train", "photos", "--config", "tiny.toml", "--device", "cpu", "--workers", "1", "-o")
EPOCHS = 8  # so many that no kill comes too late
COMPARED = 4  # of them; later, roundings have grown
LOST = "error: another process of this run ended ("
STOPPED = "error: interrupted"
Torchrun = subprocess.Popen[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """131 photos, of which one is broken, and what one process made of them."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "photos").mkdir()
    for i in range(131):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(folder / "photos" / f"{i:03}.png")
    (folder / "photos" / "100.png").write_text("broken")
    (folder / "tiny.toml").write_text(SETTINGS)
    # Then as many images go through its network at once as through each one's of two processes, and sums round alike.
    (folder / "parts.toml").write_text(SETTINGS + "accumulate = 2\n")
    (folder / "pauc.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*TRAIN, "one", "--config", "parts.toml", "--epochs", str(EPOCHS), "--quiet"]) == 3
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def torchrun(*arguments: str, restarts: int = 0) -> Torchrun:
    """Two processes on this machine; the port is one that is free."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), "--monitor-interval", "0.1", "pauc.py", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=Path.cwd()
    )


def worker(agent: Torchrun, rank: int) -> int:
    """The process that torchrun has given this rank; 0 while there is none."""
    for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        with suppress(OSError):  # it has just ended
            if f"\0RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return int(pid)
    return 0


def epochs_told(folder: Path) -> list[dict[str, Any]]:
    """The lines of whole epochs; a checkpoint follows each."""
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [line for line in map(json.loads, lines) if line["step"] == 0]


def wait_for(condition: Callable[[], bool], agent: Torchrun) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert agent.poll() is None, agent.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def saved_epoch(folder: Path) -> int:
    """Of the checkpoint, which is there and whole."""
    place = read_place(folder, open_by_index(Path("photos")).fingerprint(), quiet=True)
    assert place
    return place.epoch


def test_two_processes_train_what_one_does() -> None:
    agent = torchrun(*TRAIN, "two", "--epochs", str(EPOCHS))
    said, complained = agent.communicate(timeout=240)
    assert agent.returncode == 0, complained  # torchrun would take a 3 for a crash
    assert said.startswith("two/model: trained; verdict: ")
    assert said.count("\n") == 1
    assert complained.count("epoch 1/8: ") == 1
    assert "warning: 1 of 131 images could not be read; listed in two/unreadable.txt\n" in complained
    assert Path("two/unreadable.txt").read_text() == Path("one/unreadable.txt").read_text()
    assert_same_run(Path("two"))


def assert_same_run(folder: Path) -> None:
    one, two = (epochs_told(each)[:COMPARED] for each in (Path("one"), folder))
    assert len(epochs_told(folder)) == EPOCHS
    for name, within in (("loss", 1e-3), ("infonce", 1e-3), ("intra_share", 1e-2), ("effective_rank", 1e-2)):
        expected = [line[name] for line in one if name in line]
        assert [line[name] for line in two if name in line] == pytest.approx(expected, rel=within), name
    first, second = (open_folder(each / "model") for each in (Path("one"), folder))
    assert first.read_backbone().keys() == second.read_backbone().keys()


def test_deaths_lose_nothing_that_was_saved() -> None:
    folder = Path("killed")
    agent = torchrun(*TRAIN, "killed", "--epochs", str(EPOCHS), restarts=1)
    wait_for(lambda: len(standing(folder)) > 1, agent)  # that of the beginning, and an epoch's
    first = worker(agent, 0)
    os.kill(worker(agent, 1), signal.SIGKILL)
    wait_for(lambda: worker(agent, 0) not in (first, 0), agent)  # torchrun has started both again
    newest = standing(folder)[0]
    wait_for(lambda: standing(folder)[0] != newest, agent)  # and they have gone on
    saved = saved_epoch(folder)
    assert saved >= 1
    os.kill(worker(agent, 0), signal.SIGKILL)  # no restart is left
    complained = agent.communicate(timeout=60)[1]
    assert agent.returncode == 1
    # Said by the one that was left, each time; or torchrun's signal reached it before it noticed.
    assert complained.count(LOST) >= 1, complained
    assert complained.count(LOST) + complained.count(STOPPED) == 2, complained
    assert "Traceback" not in complained.split(LOST)[1].splitlines()[0]
    assert saved <= saved_epoch(folder) < EPOCHS

    agent = torchrun("train", "photos", "-o", "killed", "--resume", "--device", "cpu", "--workers", "1")
    before = len(epochs_told(folder))
    wait_for(lambda: len(epochs_told(folder)) > before, agent)
    agent.terminate()
    complained = agent.communicate(timeout=60)[1]
    assert complained.count("all that was done is saved. Go on with: torchrun … -m pauc_hub.cli train photos") == 1
    assert run(["train", "photos", "-o", "killed", "--resume", "--device", "cpu", "--workers", "1", "--quiet"]) == 3
    assert_same_run(folder)


@pytest.mark.parametrize(("rank", "said"), [("0", "error: no such file or folder: 'nowhere'\n"), ("1", "")])
def test_what_all_find_alike_is_said_once_a_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, said: str
) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert run(["train", "nowhere", "-o", "new"]) == 2
    assert capsys.readouterr().err == said
