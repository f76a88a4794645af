"""A real run that is watched: what it leaves, what it says when it goes wrong, and that it asks the
network nothing.
"""

import dataclasses
import json
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training import expectation_step, loop
from pauc_hub.training.config import Config
from pauc_hub.training.data import Views, resident
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.data.views import draw_views
from pauc_hub.training.estep import all_features
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.monitoring import boards, checks, curves, learning, pace
from pauc_hub.training.monitoring.checks import findings
from pauc_hub.training.monitoring.finding import Finding
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.state import new_training, take_step

CONFIG = Config(
    architecture="test_resnet",
    size=32,
    epochs=3,
    batch_size=10,
    queue=20,
    clusters=(2, 4),
    lr=0.06,
    dim=16,
    kmeans="torch",
    precision="fp32",
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty of two colours, in a folder each."""
    for i in range(40):
        colour = np.array([(200, 30, 30), (30, 200, 30)][i % 2])
        noise = np.random.default_rng(i).integers(-25, 25, (4, 4, 3))
        path = tmp_path / "images" / f"{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((colour + noise).astype(np.uint8)).resize((36, 36)).save(path)
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def _never_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: long epochs that wait for images are a finding."""
    monkeypatch.setattr(pace, "BRIEF", math.inf)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("drawing")
def test_a_watched_run_tells_all_it_should_and_asks_nobody(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    run = tmp_path / "run"
    model = loop.train(images, run, dataclasses.replace(CONFIG, labelled=str(images)), workers=1)
    epochs = [line for line in lines(run) if not line["step"]]
    assert [line.get("knn") for line in epochs[:-1]] == [None] * 2  # every fourth, and the last
    assert 0.5 <= epochs[-1]["knn"] <= 1.0
    assert ", knn " in capsys.readouterr().err.splitlines()[-1]
    last = [line for line in lines(run) if line["epoch"] == 2 and line["step"]][-1]
    assert epochs[-1]["lr"] == last["lr"]
    assert epochs[0]["estep_share"] == 0.0
    seconds = epochs[-1]["estep_seconds"], epochs[-1]["mstep_seconds"]
    assert epochs[-1]["estep_share"] == pytest.approx(seconds[0] / sum(seconds))
    assert 0.1 < epochs[-1]["memory_gib"] < 64
    assert 0 < epochs[-1]["alignment"] < 4
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((run / "tensorboard").iterdir())) == 1
    facts = json.loads((model / "facts.json").read_text())
    assert facts["config"]["labelled"] == "images"  # where it lay is nobody's business
    [score] = facts["scores"]
    assert score["value"] == round(100 * epochs[-1]["knn"], 2)
    assert score["bank"] == "images: four of five images, 32"
    assert (
        f"| {score['protocol']} | top-1 % | {score['value']} | – | backbone | 32 |"
        in (model / "README.md").read_text()
    )
    assert findings(read_history(run)) == []


def test_alignment_is_the_mean_squared_distance_of_a_query_and_its_key(
    images: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, batch_size=2, queue=4).resolve(40)
    state = new_training(
        tmp_path, config, open_by_index(images), torch.device("cpu"), 1, StopRequest(), quiet=True
    )
    q, k = torch.eye(16)[:2].requires_grad_(), torch.eye(16)[[0, 0]]  # squared distances 0 and 2
    views = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    draws = draw_views(config, 2, torch.Generator())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.pair, "queries", lambda *_: q)
        patch.setattr(state.pair, "keys", lambda *_: k)
        found = take_step(state, Views(torch.tensor([0, 1]), views, views, (draws, draws)))
    assert found["alignment"].item() == pytest.approx((0 + 2) / 2)
    assert not found["alignment"].requires_grad


def test_a_run_keeps_its_labelled_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = dataclasses.replace(CONFIG, labelled="images").resolve(40)
    assert resolved.labelled == str(images)
    assert CONFIG.resolve(40).labelled == ""


def test_a_bad_labelled_folder_is_refused_before_anything_is_written(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"^labelled images: '.*/1' needs 2 or more subfolders"):
        loop.train(
            images,
            tmp_path / "run",
            dataclasses.replace(CONFIG, labelled=str(images / "1")),
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_an_absurd_rate_is_seen_to_diverge(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed) as failed:
        loop.train(images, tmp_path, dataclasses.replace(CONFIG, lr=1e8, epochs=5), quiet=True)
    history = read_history(tmp_path)
    assert history.failure == str(failed.value)
    assert [finding.name for finding in findings(history)] == ["diverged"]


def test_keys_without_momentum_are_seen_to_collapse_and_said_to_once(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # of 32: tiny as it is, this run is blind from the first on
    monkeypatch.setattr(learning, "FEWEST_STEPS", 20)
    sick = dataclasses.replace(CONFIG, momentum=0.0, lr=3.0, epochs=8, objective="infonce")
    loop.train(images, tmp_path, sick, workers=1)
    [finding] = findings(read_history(tmp_path))
    assert finding.name == "collapsed"
    assert "momentum=0.99 (now 0" in finding.change
    alarms = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [alarm.split(":")[1] for alarm in alarms] == [" collapsed"]
    assert alarms[0].endswith(f"`pauc doctor {tmp_path}` tells more.")


def clocked(monkeypatch: pytest.MonkeyPatch, *, features: float, wait: float) -> None:
    """A clock by which a step takes a second, and all features and the wait for a batch so many."""
    clock = [0.0]

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            clock[0] += seconds
            return function(*arguments, **named)

        return call

    views = Streamed.views

    def late(loader: Streamed, batches: Any) -> Any:
        for batch in views(loader, batches):
            clock[0] += wait
            yield batch

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop, "take_step", taking(1, take_step))
    monkeypatch.setattr(expectation_step, "all_features", taking(features, all_features))
    monkeypatch.setattr(Streamed, "views", late)
    monkeypatch.setattr(resident, "SHARE", 0.0)
    monkeypatch.setattr(pace, "BRIEF", 1.0)


@pytest.mark.parametrize(("wait", "found"), [(0.3, []), (0.4, ["starved"])])
def test_slow_reading_is_seen_to_starve(
    wait: float, found: list[str], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a quarter of the time on."""
    clocked(monkeypatch, features=0, wait=wait)
    loop.train(
        images,
        tmp_path,
        dataclasses.replace(CONFIG, epochs=4, objective="infonce"),
        workers=1,
        quiet=True,
    )
    assert [finding.name for finding in findings(read_history(tmp_path))] == found


@pytest.mark.parametrize(("features", "found"), [(2.6, []), (2.7, ["burdened"])])
def test_an_e_step_out_of_proportion_is_seen(
    features: float, found: list[str], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From two fifths of the time on; an epoch has four steps."""
    clocked(monkeypatch, features=features, wait=0)
    loop.train(images, tmp_path, dataclasses.replace(CONFIG, epochs=4), workers=1, quiet=True)
    assert [finding.name for finding in findings(read_history(tmp_path))] == found


def test_a_board_that_is_lost_ends_no_run(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(boards.TensorBoard, "show", full)
    monkeypatch.setattr(curves, "draw", full)
    loop.train(images, tmp_path, dataclasses.replace(CONFIG, epochs=2))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert said == ["warning: TensorBoard is told no more: [Errno 28] No space left on device"]


def test_a_quiet_run_keeps_its_alarms_to_itself(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "CHECKS", (lambda run: Finding("bad", "it is", "so", "x", "y"),))
    loop.train(images, tmp_path, dataclasses.replace(CONFIG, epochs=1), quiet=True)
    assert capsys.readouterr().err == ""
