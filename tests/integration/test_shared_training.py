"""`torchrun -m pauc_hub.cli train`: two processes train what one does, though both die on the
way.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying import Death, read_diary
from PIL import Image
from torchrun import TORCHRUN

from pauc_hub.cli import run
from pauc_hub.models.folder import open_folder

# As `pauc`, which torchrun starts by a file; with a diary for each rank.
PROGRAM = """\
import json, os
from pathlib import Path
from dying import Activities
from pauc_hub.cli import main
from pauc_hub.training import loop

rank, restarts = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
activities = Activities(Path(f"diary {rank}"))
activities.note("learning", loop, "take_step")
activities.order(json.dumps(json.loads(os.environ["DEATHS"]).get(f"{rank} {restarts}")))
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
EPOCHS, STEPS = 4, 2
# Of rank and restart: in the second step of the second epoch that each has part in.
DEATHS = {"1 0": Death("learning", STEPS + 2), "0 1": Death("learning", STEPS + 2)}
LOST = "error: another process of this run ended ("
STOPPED = "error: interrupted"


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
    # Then as many images go through its network at once as through each one's of two processes, and
    # sums round alike.
    (folder / "parts.toml").write_text(SETTINGS + "accumulate = 2\n")
    (folder / "pauc.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert (
            run([*TRAIN, "one", "--config", "parts.toml", "--epochs", str(EPOCHS), "--quiet"]) == 3
        )
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Two processes on this machine, started again whenever one has died; the port is one that is
    free.
    """
    command = [
        *TORCHRUN,
        "--max-restarts",
        str(len(DEATHS)),
        "--monitor-interval",
        "0.1",
        "pauc.py",
        *arguments,
    ]
    places = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": places,
        "DEATHS": json.dumps(DEATHS),
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def epochs_told(folder: Path) -> list[dict[str, Any]]:
    """The lines of whole epochs; a checkpoint follows each."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["step"] == 0]


def test_two_processes_train_what_one_does_and_no_death_loses_what_was_saved() -> None:
    ended = torchrun(*TRAIN, "two", "--epochs", str(EPOCHS))
    complained = ended.stderr
    assert ended.returncode == 0, complained  # torchrun would take a 3 for a crash
    assert ended.stdout.startswith("two/model: trained; verdict: ")
    assert ended.stdout.count("\n") == 1
    # Each went on from the epoch's end that had been saved, and none was learnt twice.
    assert [complained.count(f"epoch {epoch}/{EPOCHS}: ") for epoch in range(1, EPOCHS + 1)] == [
        1
    ] * EPOCHS
    # The other one's death ends a step that is not done.
    assert len(read_diary(Path("diary 0"))["learning"]) == (STEPS + 1) + (STEPS + 1) + 2 * STEPS
    assert (
        "warning: 1 of 131 images could not be read; listed in two/unreadable.txt\n" in complained
    )
    assert Path("two/unreadable.txt").read_text() == Path("one/unreadable.txt").read_text()
    # Said by the one that was left, each time; or torchrun's signal reached it before it noticed.
    errors = [line for line in complained.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(DEATHS), complained
    assert all(
        line == STOPPED or (line.startswith(LOST) and "Traceback" not in line) for line in errors
    ), complained
    assert_same_run(Path("two"))


def assert_same_run(folder: Path) -> None:
    one, two = (epochs_told(each) for each in (Path("one"), folder))
    assert len(epochs_told(folder)) == EPOCHS
    for name, within in (
        ("loss", 1e-3),
        ("infonce", 1e-3),
        ("intra_share", 1e-2),
        ("effective_rank", 1e-2),
    ):
        expected = [line[name] for line in one if name in line]
        assert [line[name] for line in two if name in line] == pytest.approx(
            expected, rel=within
        ), name
    first, second = (open_folder(each / "model") for each in (Path("one"), folder))
    assert first.read_backbone().keys() == second.read_backbone().keys()
