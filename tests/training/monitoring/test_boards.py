"""TensorBoard and wandb: what they are told, once each, and that nothing is asked of the
network.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring import boards
from pauc_hub.training.monitoring.boards import (
    BoardLost,
    TensorBoard,
    open_boards,
    refuse_absent_wandb,
)

STEP = {"epoch": 1, "step": 5, "loss": 2.0}
EPOCH = {"epoch": 2, "step": 0, "loss": 1.5, "knn": 0.25}
STEPS = 10  # an epoch


def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_steps_and_epochs_are_events(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, STEPS, [])
    board.show(STEP)
    board.show(EPOCH | {"failed": "a word is no number"})
    board.close()
    assert events(tmp_path) == {
        "step/loss": [(15, 2.0)],
        "epoch/loss": [(20, 1.5)],
        "epoch/knn": [(20, 0.25)],
    }


def test_a_resumed_run_shows_nothing_twice_and_lacks_nothing(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, STEPS, [])
    for step in (5, 10):
        first.show(STEP | {"step": step})
    # and is killed; the second line was past its last checkpoint, an earlier one unwritten
    first._writer.flush()
    again = TensorBoard(tmp_path, STEPS, [{"epoch": 0, "step": 5, "loss": 3.0}, STEP])
    again.show(STEP | {"step": 10, "loss": 1.0})
    again.close()
    first.close()
    assert events(tmp_path) == {"step/loss": [(5, 3.0), (15, 2.0), (20, 1.0)]}


def test_without_the_package_a_line_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boards, "find_spec", lambda name: None)
    assert open_boards(tmp_path, STEPS, [], Config(), None, quiet=False) == []
    assert (
        capsys.readouterr().err
        == "note: nothing is written for TensorBoard; pip install 'pauc-hub[train]' for that\n"
    )
    assert open_boards(tmp_path, STEPS, [], Config(), None, quiet=True) == []
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_wandb_that_is_asked_for_and_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "find_spec", lambda name: None)
    refuse_absent_wandb(None)
    with pytest.raises(UsageError) as refused:
        refuse_absent_wandb("mine")
    assert (
        str(refused.value)
        == "wandb='mine' needs a package that is not installed: pip install 'pauc-hub[wandb]'."
    )


WANDB = """
import json, pathlib
class Error(Exception): pass
def init(**settings):
    if settings["project"] == "refused":
        raise Error("no key")
    return Run(pathlib.Path(settings["dir"]) / "told.jsonl", settings)
class Run:
    def __init__(self, path, settings):
        self.path = path
        self._tell({"init": settings})
    def log(self, values, step):
        if "step/loss" in values and values["step/loss"] < 0: raise Error("quota")
        self._tell({"step": step, **values})
    def finish(self): self._tell({"finish": True})
    def _tell(self, what):
        with self.path.open("a") as file: file.write(json.dumps(what) + "\\n")
"""


@pytest.fixture
def wandb(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that writes down what it is told."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)


def told(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "told.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("wandb")
def test_wandb_is_told_the_same_under_one_id(tmp_path: Path) -> None:
    for _ in range(2):
        board = open_boards(tmp_path, STEPS, [], Config(), "mine", quiet=True)[-1]
        board.show(STEP)
        board.show(EPOCH)
        board.close()
    first, step, epoch, end, second, *_ = told(tmp_path)
    assert (step, epoch, end) == (
        {"step": 15, "step/loss": 2.0},
        {"step": 20, "epoch/loss": 1.5, "epoch/knn": 0.25},
        {"finish": True},
    )
    assert first == second  # the id too
    assert (first["init"]["project"], first["init"]["resume"]) == ("mine", "allow")
    assert first["init"]["id"] == (tmp_path / "wandb_id.txt").read_text().strip()


@pytest.mark.usefixtures("wandb")
def test_what_wandb_refuses_is_a_board_lost(tmp_path: Path) -> None:
    with pytest.raises(BoardLost, match=r"^quota$"):
        open_boards(tmp_path, STEPS, [], Config(), "mine", quiet=True)[-1].show(
            STEP | {"loss": -1.0}
        )


@pytest.mark.usefixtures("wandb")
def test_wandb_is_imported_when_asked_for_alone(tmp_path: Path) -> None:
    open_boards(tmp_path, STEPS, [], Config(), None, quiet=True)[0].close()
    assert "wandb" not in sys.modules
    with pytest.raises(
        TrainingFailed,
        match=r"^wandb did not begin: no key\. Leave out wandb to train without it\.$",
    ):
        open_boards(tmp_path, STEPS, [], Config(), "refused", quiet=True)
