"""`pauc doctor` as a whole: what it prints of a healthy run, a sick one, one that just began, and
none.
"""

import dataclasses
import json
from math import log
from pathlib import Path
from typing import Any

import pytest

from pauc_hub.cli import run
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring import curves
from pauc_hub.training.run import run_folder

CONFIG = Config(objective="infonce", epochs=40, queue=4095)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of infonce that has just begun, in the working directory."""
    run_folder.begin(tmp_path / "run", CONFIG.resolve(50_000), overwrite=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def write_epochs(folder: Path, losses: list[float]) -> None:
    metrics = run_folder.Metrics(folder, 0, 0)
    for i, loss in enumerate(losses):
        metrics.write_step(i, 195, {"loss": loss, "infonce": loss, "alignment": 0.5, "lr": 0.06})
        metrics.write_epoch(
            i + 1, {"data_wait": 0.01, "mstep_seconds": 30.0, "images_per_second": 900.0}
        )


@pytest.mark.usefixtures("drawing")
def test_a_healthy_run_is_called_healthy(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_epochs(begun, [8.0, 7.5, 7.0, 6.5])
    assert run(["doctor", "run"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "run: healthy (4 of 40 epochs done)",
        "not judged: its clusters: the objective infonce has none",
        "curves: run/curves.png",
    ]
    assert printed.err == ""
    assert (begun / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_sick_run_is_told_with_what_shows_it_and_what_to_change(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_epochs(begun, [log(4096)] * 5)
    assert run(["doctor", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "run: stuck (5 of 40 epochs done)",
        (
            "stuck: the loss stays where guessing would have it: queries do not find their keys "
            "among the others"
        ),
        (
            "  seen:   infonce 8.32 in the last 3 of 5 epochs; ln(queue + 1) = ln 4096 = 8.32 "
            "is chance; "
            "panel 'InfoNCE (nats)' of run/curves.png"
        ),
        (
            "  change: start anew with --lr 0.02 (now 0.06); if that does not help, "
            "milder views (a larger crop_min, less jitter), or more epochs"
        ),
    ]


def test_a_run_that_just_began_is_too_young(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "run"]) == 0
    assert capsys.readouterr().out.startswith(
        "run: too early to tell (0 of 40 epochs done)\nnot judged: whether it"
    )


def test_json_is_one_object(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_epochs(begun, [log(4096)] * 5)
    (begun / "model").mkdir()  # of an export: 5 of 40 epochs are no finished run
    assert run(["doctor", "run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    told = (found["run"], found["verdict"], found["finished"], found["curves"])
    assert told == ("run", "stuck", False, "run/curves.png")
    assert [set(finding) for finding in found["findings"]] == [
        {"name", "said", "evidence", "panel", "change"}
    ]
    assert found["numbers"]["infonce"] == pytest.approx(log(4096))


def test_a_finished_run_gets_a_verdict(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = dataclasses.replace(CONFIG, epochs=2).resolve(50_000)
    run_folder.begin(begun, short, overwrite=True)
    write_epochs(begun, [log(4096)] * 2)
    (begun / "model").mkdir()
    assert run(["doctor", "run"]) == 0
    first, *_, change = capsys.readouterr().out.splitlines()[:4]
    assert first == "run: stuck (finished)"
    assert change.startswith(
        "  change: go on for longer: --resume with --epochs 6 (now 2: 390 steps are few, "
    )


def test_without_matplotlib_or_a_place_to_write_the_verdict_stands(
    begun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    write_epochs(begun, [8.0, 7.5, 7.0, 6.5])
    monkeypatch.setattr(curves, "draw", read_only)
    assert run(["doctor", "run"]) == 0
    assert (
        capsys.readouterr().err
        == "note: no curves: 'run/curves.png' could not be written (Permission denied)\n"
    )
    monkeypatch.setattr(curves, "can_draw", lambda: False)
    assert run(["doctor", "run"]) == 0
    printed = capsys.readouterr()
    assert (
        printed.err
        == "note: no curves: matplotlib is not installed: pip install 'pauc-hub[train]'\n"
    )
    assert printed.out.startswith("run: healthy")
    assert not (begun / "curves.png").exists()


def test_what_is_no_run_is_one_line(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".", "nowhere"):
        assert run(["doctor", name]) == 2
        assert capsys.readouterr().err == (
            f"error: '{name}' holds no run: there is no config.json. Give the folder that `pauc "
            "train` got with -o.\n"
        )


def test_the_model_of_a_run_leads_to_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    assert run(["doctor", str(model)]) == 2
    assert (
        capsys.readouterr().err
        == f"error: '{model}' is the model of a run, not the run. Give '{model.parent}'.\n"
    )
